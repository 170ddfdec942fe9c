// Looking up parts of the log, block by block, when somebody is about to look at them.

import { groupOf, isGroup, Kind } from "../core/kinds.js";
import { delivered } from "../core/frames.js";
import { BLOCK } from "./conversation.js";

const AT_ONCE = 6;
const PUT_OFF = 2000;
const BROKEN = 30000; // after what should not happen: seldom, but somebody still waits for it

export class History {
  #client;
  #loading = new Map(); // "conv block" -> promise
  #queue = [];
  #running = 0;

  constructor(client) {
    this.#client = client;
  }

  // Keep a message that came in whatever way; says whether it is new.
  keep(message) {
    const { store, outbox } = this.#client;
    const conversation = store.conversation(message.conv);
    const isNew = conversation.put(message);
    if (message.from === store.me && message.key && outbox) {
      outbox.remove(message.key);
      this.#client.link.run((protocol) => protocol.settled(message));
    }
    if (isNew) store.changed(message.conv, "lists");
    return isNew;
  }

  // Load a block, unless it is here. Resolves when it is, or when it cannot be had.
  load(conversation, block) {
    if (conversation.forbidden || block < 0 || conversation.missing(block) === null) return Promise.resolve();
    const name = `${conversation.conv} ${block}`;
    let promise = this.#loading.get(name);
    if (!promise) {
      promise = this.#turn(() => this.#fetch(conversation, block)).finally(() => this.#loading.delete(name));
      this.#loading.set(name, promise);
    }
    return promise;
  }

  // Load the last message only, for the list of conversations.
  async preview(conversation) {
    if (conversation.head === 0 || conversation.last || conversation.forbidden) return;
    await this.#turn(() => this.#page(conversation, { before: conversation.head + 1, limit: 1 })).catch(() => {});
  }

  // The next page of what was found in one's own history.
  async search(query, conv = null, before = null) {
    const fields = { query, limit: 20 };
    if (conv) fields.conv = conv;
    if (before) fields.before = { ts: before.ts, conv: before.conv, seq: before.seq };
    const answer = await this.#client.askNow(Kind.SEARCH, fields);
    const messages = answer.messages.map(delivered);
    for (const message of messages) this.#client.contacts.met(message);
    return { messages, more: Boolean(answer.more) };
  }

  // The connection has changed: whoever looks at a hole should ask again.
  wake() {
    const { store } = this.#client;
    if (store.current) store.changed(store.current);
  }

  async #fetch(conversation, block) {
    for (;;) {
      const first = conversation.missing(block);
      if (first === null) return;
      try {
        const limit = conversation.range(block)[1] - first + 1;
        const found = await this.#page(conversation, { after: first - 1, limit: Math.min(limit, BLOCK) });
        if (found === 0) return;
      } catch (error) {
        if (error.error === "signed_out") return;
        if (error.error === "not_a_member" || error.error === "no_such_group") {
          conversation.forbidden = true;
          if (isGroup(conversation.conv)) this.#client.contacts.left(groupOf(conversation.conv));
          this.#client.store.changed(conversation.conv);
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000 || (error.isPutOff ? PUT_OFF : BROKEN)));
      }
    }
  }

  async #page(conversation, fields) {
    const answer = await this.#client.ask(Kind.HISTORY, { conv: conversation.conv, ...fields }, { repeatable: true });
    let found = 0;
    for (const entry of answer.messages) {
      const message = delivered(entry);
      this.#client.contacts.met(message);
      if (this.keep(message)) found += 1;
    }
    return found;
  }

  // The latest wish first: what was scrolled past may wait.
  async #turn(step) {
    if (this.#running >= AT_ONCE) await new Promise((go) => this.#queue.push(go));
    this.#running += 1;
    try {
      return await step();
    } finally {
      this.#running -= 1;
      this.#queue.pop()?.();
    }
  }
}
