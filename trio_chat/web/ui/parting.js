// Parting: leave a group, remove somebody from it, block somebody. Each asks once.

import { context } from "./context.js";
import { openQuestion } from "./dialog.js";
import { h } from "./dom.js";
import { isolated, t } from "./i18n.js";

export function askToLeave(id, name, left) {
  const creator = context.store.groups.get(id)?.users.some((user) => user.id === context.store.me && user.role === "creator");
  openQuestion(t("leave.title"), [t("leave.question", { name: isolated(name) }), creator ? t("leave.creator") : ""], t("leave.do"), async () => {
    await context.client.contacts.leaveGroup(id);
    left();
  });
}

export function askToRemove(group, user, removed) {
  const again = h("input", { type: "checkbox" });
  const choice = h("label", { class: "choice" }, again, h("span", {}, t("remove.again")));
  const names = { name: isolated(user.name), group: isolated(group.name) };
  openQuestion(t("remove.title"), [t("remove.question", names)], t("remove.do"), async () => {
    await context.client.contacts.removeMember(group.id, user.id, !again.checked);
    removed();
  }, choice);
}

export function askToBlock(id, name, blocked) {
  openQuestion(t("block.title"), [t("block.question", { name: isolated(name) }), t("block.hint")], t("block.do"), async () => {
    await context.client.contacts.block(id);
    blocked();
  });
}
