// The list of conversations, and that of people.

import { groupOf, isGroup, peerOf } from "../core/kinds.js";
import { openAdd } from "./add.js";
import { avatar } from "./avatar.js";
import { context } from "./context.js";
import { Component, h, icon, reconcile } from "./dom.js";
import { shortCount, when } from "./format.js";
import { t } from "./i18n.js";
import { openSearch } from "./search.js";
import { openSettings } from "./settings.js";

export class Sidebar extends Component {
  #tab = "chats";

  build(signal) {
    const { store } = context;
    const button = (name, label, open) => h("button", { type: "button", class: "round quiet", "aria-label": label, title: label, "aria-haspopup": "dialog", onclick: open }, icon(name));
    this.header = h("header", { class: "bar" },
      h("button", { type: "button", class: "who", "aria-haspopup": "dialog", "aria-label": t("settings.open", { name: store.session.name }), onclick: () => openSettings() },
        avatar(store.me, store.session.name), h("span", { class: "names" }, h("bdi", { class: "name" }, store.session.name))),
      button("search", t("search.open"), () => openSearch()),
      button("plus", t("add.open"), () => openAdd()),
      button("settings", t("settings.title"), () => openSettings()));
    this.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": t("list.tabs") },
      ["chats", "people"].map((name) => h("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "list", onclick: () => this.#choose(name) }, t(`list.${name}`), h("span", { class: "badge" }))));
    this.tabs.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      this.#choose(this.#tab === "chats" ? "people" : "chats");
      this.tabs.querySelector("[aria-selected='true']").focus();
    });
    this.list = h("div", { id: "list", class: "list", role: "tabpanel", tabindex: "-1" });
    this.append(this.header, this.tabs, this.list);
    store.watch(["lists", "connection", "*"], () => this.draw(), signal);
    this.#choose("chats");
  }

  #choose(tab) {
    this.#tab = tab;
    this.list.setAttribute("aria-labelledby", `tab-${tab}`);
    this.list.replaceChildren();
    this.draw();
  }

  draw() {
    const { store } = context;
    if (!store.session) return;
    for (const button of this.tabs.children) {
      const chosen = button.id === `tab-${this.#tab}`;
      button.setAttribute("aria-selected", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    const badge = this.tabs.querySelector("#tab-chats .badge");
    badge.textContent = shortCount(store.unread);
    if (this.#tab === "chats") this.#drawChats();
    else this.#drawPeople();
  }

  #drawChats() {
    const { store } = context;
    const rows = store.listed;
    if (rows.length === 0) {
      this.#only(store.loaded ? this.#empty("chat", t("list.emptyChats"), t("list.emptyChatsHint", { name: store.session.name })) : skeleton());
      return;
    }
    this.#unempty();
    reconcile(this.list.firstElementChild, rows, {
      key: (conversation) => conversation.conv,
      signature: (conversation) => JSON.stringify(this.#chat(conversation)),
      create: (conversation) => this.#chatRow(conversation),
    });
  }

  // What a row of the list shows.
  #chat(conversation) {
    const { store } = context;
    const { conv } = conversation;
    const group = isGroup(conv);
    const id = group ? groupOf(conv) : peerOf(conv, store.me);
    const person = group ? null : store.person(id);
    const pending = conversation.pending.at(-1);
    const last = conversation.last ?? conversation.preview;
    const typing = conversation.typingNow().some((one) => one !== store.me);
    const from = last && (last.from === store.me ? t("person.you") : group ? store.nameOf(last.from, conv) || last.name : "");
    const text = pending?.text ?? (last ? last.text || t("message.erased") : "");
    return {
      group, id, typing,
      title: store.title(conv) || t(group ? "group.unknown" : "person.unknown", { id }),
      online: person?.friend && !store.blocked.has(id) && id !== store.me && store.connection.online ? person.online : null,
      from: pending ? t("person.you") : from,
      text: text.slice(0, 120) || (conversation.head === 0 && store.loaded ? t(conversation.forbidden ? "group.outside" : "list.noMessages") : ""),
      time: conversation.activity ? when(conversation.activity) : "",
      unread: conversation.unread,
      fate: pending ? (pending.error ? "failed" : "sending") : last?.from === store.me && conversation.head ? conversation.fate(conversation.head).state : "",
      current: store.current === conv,
    };
  }

  #chatRow(conversation) {
    const chat = this.#chat(conversation);
    const marks = { sending: "clock", stored: "check", received: "checks", read: "checks", failed: "failed" };
    return h("li", {},
      h("a", { class: "entry", href: `#${conversation.conv}`, "aria-current": chat.current ? "page" : null },
        avatar(chat.id, chat.title, { group: chat.group, online: chat.online }),
        h("span", { class: "entry-text" },
          h("span", { class: "entry-top" }, h("bdi", { class: "entry-title" }, chat.title), h("time", {}, chat.time)),
          h("span", { class: "entry-bottom" },
            chat.fate && !chat.typing ? h("span", { class: `state ${chat.fate}` }, icon(marks[chat.fate]), h("span", { class: "sr-only" }, t(`state.${chat.fate}`))) : null,
            h("span", { class: chat.typing ? "preview typing-now" : "preview" }, chat.typing ? t("typing.short") : [chat.from && chat.text ? h("span", {}, t("list.from", { name: chat.from })) : null, h("bdi", {}, chat.text)]),
            chat.unread > 0 ? h("span", { class: "badge", "aria-label": t("list.unread", { count: chat.unread }) }, shortCount(chat.unread)) : null))));
  }

  #drawPeople() {
    const { store } = context;
    const friends = store.friends.sort((a, b) => Number(b.online) - Number(a.online) || a.name.localeCompare(b.name));
    if (friends.length === 0) {
      this.#only(store.loaded || store.connection.online ? this.#empty("person", t("list.emptyPeople"), t("list.emptyPeopleHint", { name: store.session.name })) : skeleton());
      return;
    }
    this.#unempty();
    const shown = (person) => [person.name, person.online && store.connection.online, store.connection.online];
    reconcile(this.list.firstElementChild, friends, {
      key: (person) => person.id,
      signature: (person) => JSON.stringify(shown(person)),
      create: (person) => h("li", {}, h("a", { class: "entry", href: `#${context.client.contacts.direct(person.id)}` },
        avatar(person.id, person.name, { online: store.connection.online ? person.online : null }),
        h("span", { class: "entry-text" },
          h("span", { class: "entry-top" }, h("bdi", { class: "entry-title" }, person.name)),
          h("span", { class: "entry-bottom" }, h("span", { class: "preview" }, store.connection.online ? t(person.online ? "person.online" : "person.offline") : ""))))),
    });
  }

  #empty(sign, title, hint) {
    return h("div", { class: "empty", dataset: { empty: this.#tab } },
      h("span", { class: "empty-sign" }, icon(sign)), h("p", { class: "empty-title" }, title), h("p", {}, hint),
      h("button", { type: "button", class: "button primary", onclick: () => openAdd() }, t("list.addPerson")),
      this.#tab === "chats" ? h("button", { type: "button", class: "button", onclick: () => openAdd("create") }, t("list.createGroup")) : null);
  }

  #only(element) {
    const now = element.dataset.empty ?? "skeleton";
    if (this.list.firstElementChild?.dataset.empty !== now) {
      element.dataset.empty = now;
      this.list.replaceChildren(element);
    }
  }

  #unempty() {
    if (this.list.firstElementChild?.localName !== "ul") this.list.replaceChildren(h("ul", {}));
  }
}

function skeleton() {
  return h("div", { class: "skeleton", "aria-label": t("list.loading"), role: "status" }, Array.from({ length: 5 }, () => h("span", {})));
}

customElements.define("tc-sidebar", Sidebar);
