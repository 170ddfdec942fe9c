// One conversation: who it is with, its messages, and where one writes.

import { groupOf, isGroup, peerOf } from "../core/kinds.js";
import { avatar } from "./avatar.js";
import "./composer.js";
import { context } from "./context.js";
import { Component, h, icon } from "./dom.js";
import { openDetails } from "./details.js";
import { t } from "./i18n.js";
import { openSearch } from "./search.js";
import "./stopped.js";
import "./timeline.js";

export class ConversationView extends Component {
  #conv = null;
  #header = "";

  build(signal) {
    this.header = h("header", { class: "bar" });
    this.timeline = h("tc-timeline");
    this.composer = h("tc-composer");
    this.stopped = h("tc-stopped", { hidden: true });
    this.append(this.header, this.timeline, this.composer, this.stopped);
    this.addEventListener("sent", () => this.timeline.toEnd());
    context.store.watch(["lists", "*", "connection"], () => {
      this.#drawHeader();
      this.#drawStopped();
    }, signal);
  }

  // Show a conversation by its name; at `seq` where a search led there.
  show(conv, seq = 0) {
    const { store, client } = context;
    this.#conv = conv;
    this.#drawHeader();
    if (isGroup(conv)) client.contacts.details(groupOf(conv));
    this.timeline.show(store.conversation(conv), seq);
    this.composer.show(conv);
    this.#drawStopped();
    if (!seq) this.composer.focus();
  }

  #drawHeader() {
    const { store } = context;
    const conv = this.#conv;
    if (!conv || !store.session) return;
    const group = isGroup(conv);
    const id = group ? groupOf(conv) : peerOf(conv, store.me);
    const title = store.title(conv) || t(group ? "group.unknown" : "person.unknown", { id });
    const person = group ? null : store.person(id);
    const about = this.#about(conv, person);
    const now = JSON.stringify([conv, title, about, person?.online, person?.friend]);
    if (now === this.#header) return;
    this.#header = now;
    const focused = [...this.header.querySelectorAll("button, a")].indexOf(document.activeElement);
    this.header.replaceChildren(
      h("a", { class: "round quiet back", href: "#", "aria-label": t("back") }, icon("back")),
      h("button", { type: "button", class: "who", "aria-haspopup": "dialog", onclick: () => openDetails(conv) },
        avatar(id, title, { group, online: person?.friend && id !== store.me && !store.blocked.has(id) ? person.online : null }),
        h("span", { class: "names" },
          h("h2", { class: "name" }, h("bdi", {}, id === store.me && !group ? t("person.self", { name: title }) : title)),
          h("span", { class: "about" }, about))),
      h("button", { type: "button", class: "round quiet", "aria-label": t("search.inThis"), title: t("search.inThis"), onclick: () => openSearch(conv) }, icon("search")));
    if (focused >= 0) this.header.querySelectorAll("button, a")[focused]?.focus();
  }

  // Where one cannot write it says why instead. What was begun stays as a draft.
  #drawStopped() {
    if (!this.#conv || !context.store.session) return;
    const stopped = this.stopped.show(this.#conv);
    if (stopped === this.composer.hidden) return;
    const focused = this.composer.contains(document.activeElement) || this.stopped.contains(document.activeElement);
    this.composer.hidden = stopped;
    if (!focused) return;
    if (stopped) this.stopped.focus();
    else this.composer.focus();
  }

  #about(conv, person) {
    const { store } = context;
    const typing = store.conversation(conv).typingNow().filter((id) => id !== store.me);
    if (typing.length > 0) return t("typing.short");
    if (isGroup(conv)) {
      const users = store.groups.get(groupOf(conv))?.users ?? [];
      return users.length > 0 ? t("group.members", { count: users.length }) : "";
    }
    if (person?.id === store.me) return t("person.selfAbout");
    if (store.blocked.has(peerOf(conv, store.me))) return t("block.is");
    if (!person?.friend) return t("person.stranger");
    if (!store.connection.online) return "";
    return person.online ? t("person.online") : t("person.offline");
  }
}

customElements.define("tc-conversation", ConversationView);
