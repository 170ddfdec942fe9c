// The messages of a conversation. Draws only what is near the eye, however long the log is; what is not loaded has its
// place kept, and is loaded when it comes near. What one reads stays where it is while things change above it.

import { isGroup, peerOf } from "../core/kinds.js";
import { BLOCK, blockOf } from "../state/conversation.js";
import { context } from "./context.js";
import { Component, h, icon, reconcile } from "./dom.js";
import { shortCount } from "./format.js";
import { t } from "./i18n.js";
import { placeholder, position, row } from "./row.js";
import { Window } from "./window.js";

const AT_END = 48; // pixels: so near to the end counts as being there
const GUESS = BLOCK * 56;

export class Timeline extends Component {
  #conversation = null;
  #window = new Window(GUESS);
  #shown = [0, 0];
  #follows = true; // whether the end stays in view
  #unreadFrom = 0; // the first message that was unread when the conversation was opened
  #found = 0; // the message that a search led to
  #expanded = new Set();
  #frame = 0;
  #width = 0;

  build(signal) {
    const { store } = context;
    this.start = h("div", { class: "log-start" });
    this.above = h("div", { class: "space" });
    this.log = h("div", { class: "log", role: "list" });
    this.below = h("div", { class: "space" });
    this.waiting = h("div", { class: "log waiting", role: "list" });
    this.typing = h("p", { class: "typing" });
    this.scroller = h("div", { class: "scroller", tabindex: "0", role: "region" },
      this.start, this.above, this.log, this.below, this.waiting, this.typing);
    this.jump = h("button", { type: "button", class: "jump", hidden: true, onclick: () => this.toEnd() }, icon("down"), h("span", { class: "badge" }));
    this.append(this.scroller, this.jump);
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true, signal });
    addEventListener("focus", () => this.#tellSeen(), { signal });
    document.addEventListener("visibilitychange", () => this.#tellSeen(), { signal });
    const observer = new ResizeObserver(() => this.#resized());
    observer.observe(this.scroller);
    signal.addEventListener("abort", () => observer.disconnect());
    store.watch(["*"], (topics) => this.#conversation && topics.has(this.#conversation.conv) && this.draw(), signal);
    store.watch(["lists"], () => this.#conversation && this.draw(), signal);
  }

  // Show a conversation; at `seq` where a search led there.
  show(conversation, seq = 0) {
    const again = conversation === this.#conversation;
    if (again && !seq) return;
    this.#conversation = conversation;
    if (!again) {
      this.#window = new Window(GUESS);
      this.#expanded.clear();
      this.log.replaceChildren();
      this.waiting.replaceChildren();
      this.#unreadFrom = conversation.unread > 0 ? conversation.readSeq + 1 : 0;
    }
    this.#found = seq;
    this.#follows = !seq && !this.#unreadFrom;
    this.draw();
    const target = seq || (again ? 0 : this.#unreadFrom);
    if (target) this.#goTo(target);
    else this.toEnd();
  }

  toEnd() {
    this.#follows = true;
    this.#found = 0;
    // The end may be far: draw there, then stand exactly at it.
    for (let pass = 0; pass < 3; pass += 1) {
      this.scroller.scrollTop = this.scroller.scrollHeight;
      this.draw();
    }
  }

  async #goTo(seq) {
    const conversation = this.#conversation;
    await context.client.history.load(conversation, blockOf(seq));
    if (conversation !== this.#conversation || !this.isConnected) return;
    for (let pass = 0; pass < 4; pass += 1) {
      const element = this.log.querySelector(`[data-seq="${seq}"]`);
      if (element) {
        const top = element.getBoundingClientRect().top - this.scroller.getBoundingClientRect().top;
        this.scroller.scrollTop += top - this.scroller.clientHeight / 4;
      } else this.scroller.scrollTop = this.start.offsetHeight + this.#window.span(0, blockOf(seq)) + 1;
      this.draw();
    }
    this.#follows = this.#isAtEnd();
  }

  // Bring the page in line with what is known and with where one looks.
  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const conversation = this.#conversation;
    if (!conversation || !this.isConnected) return;
    const anchor = this.#anchor();
    this.#drawEdges(conversation);
    this.#measure();
    const [first, end] = this.#range(conversation);
    this.#shown = [first, end];
    reconcile(this.log, range(first, end), {
      key: (block) => block,
      signature: () => "",
      create: () => h("div", { class: "block" }),
    });
    for (const block of range(first, end)) {
      context.client.history.load(conversation, block);
      this.#fillBlock(conversation, block, this.log.children[block - first]);
    }
    this.#measure();
    this.above.style.height = `${this.#window.span(0, first)}px`;
    this.below.style.height = `${this.#window.span(end, conversation.blocks)}px`;
    this.#keep(anchor);
    this.#drawJump(conversation);
    this.#tellSeen();
  }

  #drawEdges(conversation) {
    const { store, client } = context;
    const title = store.title(conversation.conv);
    this.scroller.setAttribute("aria-label", t("timeline.label", { name: title }));
    const empty = conversation.head === 0 && conversation.pending.length === 0;
    const words = this.#beginning(conversation, empty, title);
    if (this.start.textContent !== words) this.start.textContent = words;
    this.start.classList.toggle("empty", empty);
    const last = conversation.last;
    let previous = last;
    const rows = conversation.pending.map((entry) => {
      const message = { from: store.me, text: entry.text, ts: entry.at, key: entry.key };
      const place = position(message, previous, conversation.head === 0 && !previous);
      previous = message;
      return { message, place, fate: entry.error ? { state: "failed", error: entry.error } : { state: "sending", readers: 0 } };
    });
    reconcile(this.waiting, rows, {
      key: ({ message }) => message.key,
      signature: ({ message, place, fate }) => JSON.stringify([place, fate, this.#expanded.has(message.key)]),
      create: ({ message, place, fate }) => row(message, this.#view(conversation, message, place, fate, {
        retry: () => client.retry(conversation.conv, message.key),
        discard: () => client.discard(conversation.conv, message.key),
      })),
    });
    this.#drawTyping(conversation);
  }

  // What stands above the first message.
  #beginning(conversation, empty, name) {
    if (conversation.forbidden) return t("timeline.forbidden");
    if (conversation.head > 0) return conversation.get(1) ? t("timeline.start") : "";
    if (!empty || !context.store.loaded) return "";
    if (isGroup(conversation.conv)) return t("timeline.emptyGroup", { name });
    return t(peerOf(conversation.conv, context.store.me) === context.store.me ? "timeline.emptySelf" : "timeline.empty", { name });
  }

  #drawTyping(conversation) {
    const names = conversation.typingNow().filter((id) => id !== context.store.me).map((id) => context.store.nameOf(id, conversation.conv) || t("person.unknown", { id }));
    const words = names.length === 0 ? "" : names.length === 1 ? t("typing.one", { name: names[0] }) : t("typing.many", { count: names.length });
    if (this.typing.textContent !== words) this.typing.replaceChildren(...(words ? [h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")), words] : []));
  }

  #fillBlock(conversation, block, element) {
    const [first, last] = conversation.range(block);
    const { me } = context.store;
    const items = [];
    for (let seq = first; seq <= last; seq += 1) {
      const message = conversation.get(seq);
      if (message) {
        const place = position(message, conversation.get(seq - 1), seq === 1);
        items.push({ message, place, fate: message.from === me ? conversation.fate(seq) : null });
      } else if (items.at(-1)?.gap) items.at(-1).gap += 1;
      else items.push({ gap: 1, seq });
    }
    const name = (message) => (message.from === me ? "" : context.store.nameOf(message.from, conversation.conv) || message.name);
    reconcile(element, items, {
      key: ({ message, seq }) => message?.seq ?? `gap ${seq}`,
      signature: ({ message, place, fate, gap }) => gap ?? `${place.newDay}${place.goesOn}${fate?.state}${fate?.readers}${message.seq === this.#unreadFrom}${message.seq === this.#found}${this.#expanded.has(message.seq)}${name(message)}`,
      create: ({ message, place, fate, gap }) =>
        gap ? placeholder((gap / BLOCK) * this.#window.average) : row(message, this.#view(conversation, message, place, fate, { name: name(message) })),
    });
    if (items.some(({ gap }) => gap)) delete element.dataset.whole;
    else element.dataset.whole = "yes";
  }

  #view(conversation, message, place, fate, more) {
    return {
      conv: conversation.conv,
      me: context.store.me,
      place,
      fate,
      isUnreadStart: message.seq === this.#unreadFrom && this.#unreadFrom > 0,
      isFound: message.seq === this.#found && this.#found > 0,
      isExpanded: this.#expanded.has(message.seq ?? message.key),
      expand: (one) => {
        this.#expanded.add(one.seq ?? one.key);
        this.draw();
      },
      ...more,
    };
  }

  // Where things are.

  #range(conversation) {
    const { scrollTop, clientHeight } = this.scroller;
    const top = scrollTop - this.start.offsetHeight;
    const count = conversation.blocks;
    if (count === 0) return [0, 0];
    if (this.#follows) {
      let first = count - 1;
      for (let seen = this.#window.height(first); first > 0 && seen < 2.5 * clientHeight; seen += this.#window.height(first)) first -= 1;
      return [first, count];
    }
    return this.#window.between(top - 1.5 * clientHeight, top + 2.5 * clientHeight, count);
  }

  #measure() {
    for (const element of this.log.children) {
      if (element.dataset.whole) this.#window.measured(Number(element.dataset.key), element.offsetHeight);
    }
  }

  // The first message in view, and where it stands.
  #anchor() {
    if (this.#follows) return null;
    const edge = this.scroller.getBoundingClientRect().top;
    for (const block of this.log.children) {
      if (block.getBoundingClientRect().bottom <= edge) continue;
      for (const element of block.querySelectorAll(".row")) {
        const rect = element.getBoundingClientRect();
        if (rect.bottom > edge) return { seq: element.dataset.seq, top: rect.top - edge };
      }
    }
    return null;
  }

  #keep(anchor) {
    if (this.#follows) {
      this.scroller.scrollTop = this.scroller.scrollHeight;
      return;
    }
    const element = anchor && this.log.querySelector(`[data-seq="${anchor.seq}"]`);
    if (!element) return;
    const moved = element.getBoundingClientRect().top - this.scroller.getBoundingClientRect().top - anchor.top;
    if (Math.abs(moved) >= 1) this.scroller.scrollTop += moved;
  }

  #isAtEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    return scrollTop + clientHeight >= scrollHeight - AT_END && this.#shown[1] >= (this.#conversation?.blocks ?? 0);
  }

  #scrolled() {
    this.#follows = this.#isAtEnd();
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.draw());
  }

  #resized() {
    if (this.scroller.clientWidth !== this.#width) {
      this.#width = this.scroller.clientWidth;
      this.#window.forget();
    }
    this.draw();
  }

  #drawJump(conversation) {
    this.jump.hidden = this.#isAtEnd() || conversation.head === 0;
    const unread = conversation.unread;
    this.jump.querySelector(".badge").textContent = shortCount(unread);
    this.jump.setAttribute("aria-label", unread > 0 ? t("timeline.jumpUnread", { count: unread }) : t("timeline.jump"));
  }

  // Tell how far somebody has seen this conversation: only while they are looking at it.
  #tellSeen() {
    const conversation = this.#conversation;
    if (!conversation || document.hidden || !document.hasFocus() || this.scroller.clientHeight === 0) return;
    if (conversation.readSeq >= conversation.head) return;
    const edge = this.scroller.getBoundingClientRect().bottom;
    let seen = 0;
    for (const block of this.log.children) {
      if (block.getBoundingClientRect().top >= edge) break;
      for (const element of block.querySelectorAll(".row")) if (element.getBoundingClientRect().top < edge - 12) seen = Number(element.dataset.seq);
    }
    if (seen > conversation.readSeq) context.client.seen(conversation.conv, seen);
  }
}

const range = (first, end) => Array.from({ length: Math.max(0, end - first) }, (_, index) => first + index);

customElements.define("tc-timeline", Timeline);
