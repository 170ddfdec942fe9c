// What is going on with the connection, where it is not simply there; and that one is not in a group any more.

import { Link } from "../core/link.js";
import { context } from "./context.js";
import { Component, h } from "./dom.js";
import { isolated, t } from "./i18n.js";

const PATIENCE = 1500; // a connection that is made sooner is not worth a word

export class Banner extends Component {
  #timer = 0;
  #ready = false;
  #since = performance.now(); // when there was a connection for the last time, or the page began

  build(signal) {
    this.setAttribute("role", "status");
    this.text = h("span", {});
    this.button = h("button", { type: "button", class: "link", onclick: () => context.client.link.hurry() }, t("banner.now"));
    this.inner = h("div", { class: "banner", hidden: true }, this.text, this.button);
    this.news = h("div", {});
    this.append(this.inner, this.news);
    context.client.addEventListener("removed", ({ detail }) => this.#removed(detail), { signal });
    context.store.watch(["connection"], () => this.draw(), signal);
    signal.addEventListener("abort", () => clearTimeout(this.#timer));
    this.draw();
  }

  draw() {
    clearTimeout(this.#timer);
    const { phase, state, online, retryAt, failures } = context.store.connection;
    const ready = online || (!context.store.session && state !== undefined && state !== "offline" && state !== "greeting");
    if (ready || this.#ready) this.#since = performance.now();
    this.#ready = ready;
    const patient = failures === 0 && performance.now() - this.#since < PATIENCE;
    const words = ready || patient ? "" : this.#words(phase, retryAt);
    this.inner.hidden = words === "";
    if (this.text.textContent !== words) this.text.textContent = words;
    this.button.hidden = phase !== "waiting";
    if (!ready) this.#timer = setTimeout(() => this.draw(), patient ? PATIENCE : 1000);
  }

  #removed({ name }) {
    const line = h("div", { class: "banner" }, h("span", {}, t("banner.removed", { name: isolated(name) })),
      h("button", { type: "button", class: "link", onclick: () => line.remove() }, t("banner.understood")));
    this.news.replaceChildren(line);
  }

  #words(phase, retryAt) {
    if (!navigator.onLine) return t("banner.offline");
    if (phase !== "waiting") return t("banner.connecting");
    const seconds = Math.ceil(retryAt - Link.now());
    return seconds > 2 ? t("banner.waiting", { seconds }) : t("banner.lost");
  }
}

customElements.define("tc-banner", Banner);
