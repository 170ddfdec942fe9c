// What stands where one would write, where one cannot: who is blocked, a group that one is not in.

import { groupOf, isGroup, peerOf } from "../core/kinds.js";
import { context } from "./context.js";
import { form } from "./dialog.js";
import { Component, h } from "./dom.js";
import { isolated, t } from "./i18n.js";

export class Stopped extends Component {
  #shows = "";

  build() {
    this.place = h("div", { class: "stopped" });
    this.append(this.place);
  }

  // Says whether there is something to say of this conversation: then nobody writes in it.
  show(conv) {
    const why = reason(conv);
    const now = JSON.stringify([conv, why && [why.words, why.label]]);
    if (now === this.#shows) return Boolean(why);
    this.#shows = now;
    this.hidden = !why;
    if (!why) this.place.replaceChildren();
    else if (!why.act) this.place.replaceChildren(h("p", { role: "status" }, why.words));
    else this.place.replaceChildren(form([h("p", { role: "status" }, why.words)], why.label, why.act, { style: "" }));
    return Boolean(why);
  }

  focus() {
    this.querySelector("button")?.focus({ preventScroll: true });
  }
}

function reason(conv) {
  const { store, client } = context;
  if (isGroup(conv)) {
    const id = groupOf(conv);
    if (!store.conversation(conv).forbidden) return null;
    if (store.groupNames.get(id) === "") return { words: t("group.none") };
    return { words: t("group.outside"), label: t("group.join"), act: () => client.contacts.join(id) };
  }
  const id = peerOf(conv, store.me);
  if (!store.blocked.has(id)) return null;
  const name = isolated(store.title(conv) || t("person.unknown", { id }));
  return { words: t("block.stopped", { name }), label: t("block.undo"), act: () => client.contacts.unblock(id) };
}

customElements.define("tc-stopped", Stopped);
