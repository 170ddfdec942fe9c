// Parting: leave a group, remove somebody from it, block somebody. Each asks once, and gives the dialog that asks.

import { context } from "./context.js";
import { openQuestion } from "./dialog.js";
import { h } from "./dom.js";
import { isolated, t } from "./i18n.js";

export function askToLeave(id, name, left) {
  const creator = context.store.groups.get(id)?.users.some((user) => user.id === context.store.me && user.role === "creator");
  return openQuestion(t("leave.title"), [t("leave.question", { name: isolated(name) }), creator ? t("leave.creator") : ""], t("leave.do"), async () => {
    await context.client.contacts.leaveGroup(id);
    left();
  });
}

export function askToRemove(group, user) {
  const again = h("input", { type: "checkbox" });
  const choice = h("label", { class: "choice" }, again, h("span", {}, t("remove.again")));
  const names = { name: isolated(user.name), group: isolated(group.name) };
  return openQuestion(t("remove.title"), [t("remove.question", names)], t("remove.do"),
    () => context.client.contacts.removeMember(group.id, user.id, !again.checked), choice);
}

export function askToBlock(id, name) {
  return openQuestion(t("block.title"), [t("block.question", { name: isolated(name) }), t("block.hint")], t("block.do"), () => context.client.contacts.block(id));
}
