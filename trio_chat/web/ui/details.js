// Who somebody is, and who is in a group.

import { groupOf, isGroup, peerOf } from "../core/kinds.js";
import { avatar } from "./avatar.js";
import { context } from "./context.js";
import { form, openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { askToBlock, askToLeave, askToRemove } from "./parting.js";

export function openDetails(conv) {
  const { store, client } = context;
  const isOf = isGroup(conv) ? groupOf(conv) : peerOf(conv, store.me);
  const content = h("div", { class: "details", tabindex: "-1" });
  const ends = new AbortController();
  const wasIn = store.groups.has(isOf);
  let shows = "";
  const dialog = openDialog(t(isGroup(conv) ? "group.details" : "person.details"), () => content, { className: isGroup(conv) ? "" : "narrow" });
  const draw = () => {
    if (isGroup(conv) && wasIn && !store.groups.has(isOf)) {
      dialog.close();
      return;
    }
    const now = JSON.stringify(isGroup(conv) ? [shown(isOf), store.groupNames.get(isOf)] : [store.person(isOf), store.blocked.has(isOf)]);
    if (now === shows) return;
    shows = now;
    const focused = content.contains(document.activeElement) && document.activeElement.dataset.focus;
    content.replaceChildren(...(isGroup(conv) ? group(isOf, content, dialog) : person(isOf, content)));
    if (focused) (content.querySelector(`[data-focus="${focused}"]`) ?? content).focus();
  };
  store.watch(["lists"], draw, ends.signal);
  dialog.addEventListener("close", () => ends.abort());
  draw();
  if (isGroup(conv)) client.contacts.details(isOf, true);
}

function person(id, content) {
  const { store, client } = context;
  const known = store.person(id);
  const self = id === store.me;
  const blocked = store.blocked.has(id);
  const name = known?.name || t("person.unknown", { id });
  const head = h("div", { class: "centred" }, avatar(id, name, { size: "big" }), h("p", { class: "details-name" }, h("bdi", {}, name)),
    h("p", { class: "muted" }, t("person.number", { id })),
    self || blocked || known?.friend ? h("p", { class: "muted" }, t(self ? "person.selfAbout" : blocked ? "block.is" : known.online ? "person.online" : "person.offline")) : null);
  if (self) return [head];
  if (blocked) return [head, form([h("p", { class: "centred" }, t("block.isHint"))], t("block.undo"), async () => {
    await client.contacts.unblock(id);
    content.focus();
  }, { style: "" })];
  const add = form([h("p", { class: "centred" }, t("person.strangerHint"))], t("add.personDo"), async () => {
    await client.contacts.addFriend(known?.name || String(id));
    content.focus();
  });
  return [head, known?.friend ? [] : add,
    h("button", { type: "button", class: "button danger", dataset: { focus: "block" }, "aria-haspopup": "dialog", onclick: () => back(askToBlock(id, name), content) }, t("block.open"))].flat();
}

// After a question the focus is where it was, or, where that has gone, at the beginning.
function back(question, content) {
  question.addEventListener("close", () => content.contains(document.activeElement) || content.focus());
}

// What the dialog shows of a group.
function shown(id) {
  const known = context.store.groups.get(id);
  return [known?.name, known?.about, known?.users.map((user) => [user.id, user.name, user.role, isOnline(user)])];
}

function group(id, content, dialog) {
  const { store } = context;
  const known = store.groups.get(id);
  const name = store.title(`g:${id}`) || t("group.unknown", { id });
  const users = [...(known?.users ?? [])].sort((a, b) => Number(isOnline(b)) - Number(isOnline(a)) || a.name.localeCompare(b.name));
  const creates = users.some((user) => user.id === store.me && user.role === "creator");
  const head = h("div", { class: "centred" }, avatar(id, name, { group: true, size: "big" }), h("p", { class: "details-name" }, h("bdi", {}, name)),
    known?.about ? h("p", { dir: "auto" }, known.about) : null, h("p", { class: "muted" }, t("group.number", { id })));
  if (!known) return [head];
  const remove = (user) => creates && user.id !== store.me
    && h("button", { type: "button", class: "link danger", dataset: { focus: `remove-${user.id}` }, "aria-haspopup": "dialog", "aria-label": t("remove.of", { name: user.name }),
      onclick: () => back(askToRemove(known, user), content) }, t("remove.do"));
  return [head, h("h3", {}, t("group.members", { count: users.length })),
    h("ul", { class: "members" }, users.map((user) => h("li", {}, member(user), remove(user)))),
    h("button", { type: "button", class: "button danger", dataset: { focus: "leave" }, "aria-haspopup": "dialog", onclick: () => askToLeave(id, name, () => {
      dialog.close();
      location.hash = "";
    }) }, t("leave.open"))];
}

const isOnline = (user) => (context.store.person(user.id)?.friend ? context.store.person(user.id).online : user.id === context.store.me || user.online);

function member(user) {
  const { store, client } = context;
  const self = user.id === store.me;
  const inside = [avatar(user.id, user.name, { online: isOnline(user), size: "small" }),
    h("span", { class: "entry-title" }, h("bdi", {}, user.name), self ? ` (${t("person.you")})` : ""),
    user.role === "creator" ? h("span", { class: "tag" }, t("group.creator")) : null,
    h("span", { class: "sr-only" }, t(isOnline(user) ? "person.online" : "person.offline"))];
  if (self) return h("span", { class: "member" }, inside);
  return h("a", { class: "member", dataset: { focus: `member-${user.id}` }, href: `#${client.contacts.direct(user.id)}`, onclick: (event) => event.currentTarget.closest("dialog").close() }, inside);
}
