// The whole page: the welcome, or the lists and a conversation. The address says which one: #d:1:2, #g:7, #g:7/1234.

import "./banner.js";
import { context } from "./context.js";
import "./conversation.js";
import { closeDialogs } from "./dialog.js";
import { Component, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { openSearch } from "./search.js";
import "./sidebar.js";
import "./welcome.js";

const ADDRESS = /^#((?:d:\d{1,15}:\d{1,15})|(?:g:\d{1,15}))(?:\/(\d{1,15}))?$/;

export class App extends Component {
  #who = null;
  #reason = "";

  build(signal) {
    const { store, client } = context;
    this.place = h("div", { class: "place" });
    this.append(this.place);
    store.watch(["session"], () => this.#enter(), signal);
    store.watch(["lists"], () => this.#drawNothing(), signal);
    client.addEventListener("left", ({ detail }) => {
      this.#reason = detail === "logged_out" ? "" : t(`welcome.${detail}`);
      history.replaceState(null, "", location.pathname);
    }, { signal });
    addEventListener("hashchange", () => this.#go(), { signal });
    addEventListener("keydown", (event) => this.#key(event), { signal });
    this.#enter();
  }

  // Anew, in another language.
  rebuild() {
    closeDialogs();
    this.#who = null;
    this.disconnectedCallback();
    this.connectedCallback();
  }

  #enter() {
    const { store } = context;
    const who = store.session?.id ?? 0;
    if (who === this.#who) return;
    this.#who = who;
    closeDialogs();
    if (!who) {
      const welcome = h("tc-welcome");
      this.place.replaceChildren(h("tc-banner"), welcome);
      if (this.#reason) welcome.explain(this.#reason);
      this.#reason = "";
      welcome.querySelector("input").focus();
      document.documentElement.dataset.view = "welcome";
      return;
    }
    if (location.hash.startsWith("#invite=")) history.replaceState(null, "", location.pathname); // it has served
    this.conversation = h("tc-conversation", { hidden: true });
    this.nothing = h("div", { class: "nothing" });
    this.place.replaceChildren(h("a", { class: "skip", href: "#stage", onclick: (event) => this.#skip(event) }, t("skip")),
      h("header", { class: "sr-only" }, h("h1", {}, "trio-chat")), h("tc-banner"), h("main", { class: "shell" },
      h("nav", { class: "side", "aria-label": t("list.label") }, h("tc-sidebar")),
      h("section", { class: "stage", id: "stage", tabindex: "-1" }, this.nothing, this.conversation)));
    this.#go();
  }

  #go() {
    const { store } = context;
    if (!store.session) return;
    const [, conv, seq] = ADDRESS.exec(location.hash) ?? [];
    const before = store.current;
    store.current = conv && isOwn(conv, store) ? conv : null;
    document.documentElement.dataset.view = store.current ? "conversation" : "list";
    this.conversation.hidden = !store.current;
    this.nothing.hidden = Boolean(store.current);
    if (store.current) this.conversation.show(store.current, Number(seq) || 0);
    else if (before) {
      // Where one came from; a group that one has left is listed no more.
      const entry = store.conversations.get(before)?.forbidden ? null : this.querySelector(`.entry[href="#${before}"]`);
      (entry ?? this.querySelector("#list")).focus();
    }
    store.changed("lists");
  }

  #drawNothing() {
    const { store } = context;
    if (!store.session || store.current || !this.nothing) return;
    const words = !store.loaded ? "" : store.listed.length > 0 ? "nothing.title" : "nothing.first";
    if (this.nothing.dataset.shows === words) return;
    this.nothing.dataset.shows = words;
    const hint = words === "nothing.title" ? "nothing.hint" : "nothing.firstHint";
    this.nothing.replaceChildren(...(words ? [h("div", { class: "empty" }, h("span", { class: "empty-sign" }, icon("chat")), h("p", { class: "empty-title" }, t(words)), h("p", {}, t(hint)))] : []));
  }

  // Ctrl or Command with K searches; Alt with the arrows goes through the conversations.
  #key(event) {
    const { store } = context;
    if (!store.session || document.querySelector("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      openSearch();
    } else if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      const names = store.listed.map((conversation) => conversation.conv);
      const at = names.indexOf(store.current) + (event.key === "ArrowDown" ? 1 : -1);
      const next = names[(at + names.length) % names.length];
      if (next && next === store.current) this.conversation.composer.focus();
      else if (next) location.hash = next;
    }
  }

  #skip(event) {
    event.preventDefault();
    if (context.store.current && !this.conversation.composer.hidden) this.querySelector("#composer").focus();
    else this.querySelector("#stage").focus();
  }
}

function isOwn(conv, store) {
  if (!conv.startsWith("d:")) return true;
  const [low, high] = conv.slice(2).split(":").map(Number);
  return low <= high && (low === store.me || high === store.me);
}

customElements.define("tc-app", App);
