// What is going on with the connection, where it is not simply there.

import { Link } from "../core/link.js";
import { context } from "./context.js";
import { Component, h } from "./dom.js";
import { t } from "./i18n.js";

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
    this.append(this.inner);
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

  #words(phase, retryAt) {
    if (!navigator.onLine) return t("banner.offline");
    if (phase !== "waiting") return t("banner.connecting");
    const seconds = Math.ceil(retryAt - Link.now());
    return seconds > 2 ? t("banner.waiting", { seconds }) : t("banner.lost");
  }
}

customElements.define("tc-banner", Banner);
