// What the page showed last, kept in this browser: a reload shows the lists at once, and without a connection at all.

import { groupConv } from "../core/kinds.js";
import { read, write } from "./storage.js";

const CONVERSATIONS = 200;
const PEOPLE = 1000;
const PREVIEW = 120; // characters
const PAUSE = 1000;

export class Memory {
  #store;
  #timer = 0;

  constructor(store) {
    this.#store = store;
    store.watch(["lists"], () => this.#soon());
    addEventListener("pagehide", () => this.#keep());
  }

  // Put into the store what was kept of this account.
  restore() {
    const store = this.#store;
    const { people = [], groups = [], conversations = [] } = read(this.#name) ?? {};
    for (const [id, name, friend] of people) store.meet(id, { name, friend: Boolean(friend) });
    for (const [id, name, about] of groups) {
      store.groups.set(id, { id, name, about, users: [] });
      store.conversation(groupConv(id));
    }
    for (const [conv, head, readSeq, preview] of conversations) {
      const conversation = store.conversation(conv);
      conversation.told(head, readSeq);
      conversation.preview = preview;
    }
  }

  forget() {
    clearTimeout(this.#timer);
    write(this.#name, null);
  }

  get #name() {
    return `memory:${this.#store.me}`;
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#keep(), PAUSE);
  }

  #keep() {
    clearTimeout(this.#timer);
    const store = this.#store;
    if (!store.session || !store.loaded) return;
    write(this.#name, {
      people: [...store.people.values()].filter((person) => person.name).sort((a, b) => Number(b.friend) - Number(a.friend)).slice(0, PEOPLE).map(({ id, name, friend }) => [id, name, friend ? 1 : 0]),
      groups: [...store.groups.values()].map(({ id, name, about }) => [id, name, about]),
      conversations: store.listed.filter((one) => !one.forbidden).slice(0, CONVERSATIONS).map((one) => [one.conv, one.head, one.readSeq, short(one.last ?? one.preview)]),
    });
  }
}

const short = (message) => message && { from: message.from, name: message.name, ts: message.ts, text: message.text.slice(0, PREVIEW) };
