// Where one writes. Drafts are kept; Enter sends and Shift+Enter begins a new line, on phones the button sends.

import { read, write } from "../state/storage.js";
import { context } from "./context.js";
import { Component, h, icon } from "./dom.js";
import { emojiButton } from "./emoji.js";
import { t } from "./i18n.js";
import { announce } from "./notify.js";

const encoder = new TextEncoder();
const touches = () => matchMedia("(pointer: coarse)").matches && !matchMedia("(any-pointer: fine)").matches;

export class Composer extends Component {
  #conv = null;
  #timer = 0;

  build(signal) {
    this.input = h("textarea", {
      id: "composer", rows: "1", "aria-label": t("composer.label"), placeholder: t("composer.placeholder"), dir: "auto",
      enterkeyhint: touches() ? "enter" : "send", "aria-describedby": "composer-note", autocomplete: "off",
    });
    this.note = h("p", { id: "composer-note", class: "composer-note", role: "status" });
    this.button = h("button", { type: "submit", class: "round primary", "aria-label": t("composer.send"), title: t("composer.send") }, icon("send"));
    const form = h("form", { class: "composer" }, emojiButton((emoji) => this.#insert(emoji)), this.input, this.button);
    this.append(this.note, form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.input.addEventListener("input", () => this.#changed(true));
    this.input.addEventListener("keydown", (event) => this.#key(event));
    addEventListener("pagehide", () => this.#keep(), { signal });
    addEventListener("storage", (event) => this.#elsewhere(event), { signal });
  }

  show(conv) {
    if (conv === this.#conv) return;
    this.#keep();
    this.#conv = conv;
    this.input.value = read(this.#name) ?? "";
    this.#changed(false);
  }

  focus() {
    if (!touches()) this.input.focus({ preventScroll: true });
  }

  disconnectedCallback() {
    this.#keep();
    super.disconnectedCallback();
  }

  get #name() {
    return `draft:${context.store.me}:${this.#conv}`;
  }

  get #limit() {
    return context.client.protocol.greeting.limits.message;
  }

  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    if (touches() && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.#send();
  }

  #send() {
    const text = this.input.value.replace(/^\s*\n|\s+$/gu, "");
    if (!text) {
      this.input.focus();
      return;
    }
    if (encoder.encode(text).length > this.#limit) {
      this.#warn();
      announce(this.note.textContent);
      return;
    }
    const kept = context.client.send(this.#conv, text);
    this.input.value = "";
    this.#changed(false);
    this.#keep();
    this.dispatchEvent(new CustomEvent("sent", { bubbles: true }));
    if (!kept) this.note.textContent = t("composer.notKept");
    this.input.focus({ preventScroll: true });
  }

  #changed(byHand) {
    this.#grow();
    this.#warn();
    if (!byHand) return;
    if (this.input.value.trim()) context.client.typing(this.#conv);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#keep(), 250);
  }

  // As high as its text, up to a third of the screen; CSS sees to it where the browser can.
  #grow() {
    if (CSS.supports("field-sizing", "content")) return;
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight + 2, innerHeight / 3)}px`;
  }

  #warn() {
    const size = this.input.value.length * 3 > this.#limit ? encoder.encode(this.input.value.trim()).length : 0;
    const over = size - this.#limit;
    this.note.textContent = over > 0 ? t("composer.tooLong", { over, limit: this.#limit }) : "";
    this.button.disabled = over > 0;
    this.input.setAttribute("aria-invalid", over > 0 ? "true" : "false");
  }

  #insert(emoji) {
    this.input.setRangeText(emoji, this.input.selectionStart, this.input.selectionEnd, "end");
    this.#changed(true);
    this.input.focus({ preventScroll: true });
  }

  #keep() {
    clearTimeout(this.#timer);
    if (this.#conv && context.store.session) write(this.#name, this.input.value || null);
  }

  // The same draft in another tab.
  #elsewhere(event) {
    if (this.#conv && event.key === `trio-chat:${this.#name}` && document.activeElement !== this.input) {
      this.input.value = read(this.#name) ?? "";
      this.#changed(false);
    }
  }
}

customElements.define("tc-composer", Composer);
