// Who somebody is, and who is in a group.

import { groupOf, isGroup, peerOf } from "../core/kinds.js";
import { avatar } from "./avatar.js";
import { context } from "./context.js";
import { form, openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

export function openDetails(conv) {
  const { store, client } = context;
  if (isGroup(conv)) {
    const id = groupOf(conv);
    const content = h("div", { class: "details" });
    const ends = new AbortController();
    const draw = () => content.replaceChildren(...group(id));
    const dialog = openDialog(t("group.details"), () => content);
    store.watch(["lists"], draw, ends.signal);
    dialog.addEventListener("close", () => ends.abort());
    draw();
    client.contacts.details(id, true);
    return;
  }
  openDialog(t("person.details"), (dialog) => person(peerOf(conv, store.me), dialog), { className: "narrow" });
}

function person(id, dialog) {
  const { store, client } = context;
  const known = store.person(id);
  const name = known?.name || t("person.unknown", { id });
  return h("div", { class: "details centred" }, avatar(id, name, { size: "big" }), h("p", { class: "details-name" }, h("bdi", {}, name)),
    h("p", { class: "muted" }, t("person.number", { id })),
    known?.friend || id === store.me ? h("p", { class: "muted" }, id === store.me ? t("person.selfAbout") : t(known.online ? "person.online" : "person.offline"))
      : form([h("p", {}, t("person.strangerHint"))], t("add.personDo"), async () => {
        await client.contacts.addFriend(known?.name || String(id));
        dialog.close();
      }));
}

function group(id) {
  const { store, client } = context;
  const known = store.groups.get(id);
  const name = known?.name || t("group.unknown", { id });
  const users = [...(known?.users ?? [])].sort((a, b) => Number(isOnline(b)) - Number(isOnline(a)) || a.name.localeCompare(b.name));
  return [
    h("div", { class: "centred" }, avatar(id, name, { group: true, size: "big" }), h("p", { class: "details-name" }, h("bdi", {}, name)),
      known?.about ? h("p", { dir: "auto" }, known.about) : null, h("p", { class: "muted" }, t("group.number", { id }))),
    h("h3", {}, t("group.members", { count: users.length })),
    h("ul", { class: "members" }, users.map((user) => h("li", {}, member(user, store, client)))),
  ];
}

const isOnline = (user) => (context.store.person(user.id)?.friend ? context.store.person(user.id).online : user.id === context.store.me || user.online);

function member(user, store, client) {
  const self = user.id === store.me;
  const inside = [avatar(user.id, user.name, { online: isOnline(user), size: "small" }),
    h("span", { class: "entry-title" }, h("bdi", {}, user.name), self ? ` (${t("person.you")})` : ""),
    user.role === "creator" ? h("span", { class: "tag" }, t("group.creator")) : null,
    h("span", { class: "sr-only" }, t(isOnline(user) ? "person.online" : "person.offline"))];
  if (self) return h("span", { class: "member" }, inside);
  return h("a", { class: "member", href: `#${client.contacts.direct(user.id)}`, onclick: (event) => event.currentTarget.closest("dialog").close() }, inside);
}
