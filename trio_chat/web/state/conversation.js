// One conversation as the page knows it. As `seq` has no holes, its log can be looked up at any place: what was not
// loaded yet is a range of numbers. Messages are kept by their seq, so none is ever shown twice or out of order.

export const BLOCK = 16; // so many messages are looked up, and drawn, at once
const TYPING = 6000;

export const blockOf = (seq) => Math.floor((seq - 1) / BLOCK);

export class Conversation {
  head = 0; // the last seq that is known to exist
  readSeq = 0; // up to here its owner has read
  isKnown = false; // whether readSeq is more than a guess
  preview = null; // the last message as an earlier page knew it: {from, name, ts, text}
  pending = []; // entries of the outbox
  members = null; // Map of id -> {received, read}, once asked for
  typing = new Map(); // id -> when it ends, in milliseconds
  forbidden = false; // the server says that this is none of one's conversations

  #messages = new Map();
  #keys = new Map(); // key -> seq, of one's own messages
  #marks = new Map(); // id -> {received, read}

  constructor(conv, me) {
    this.conv = conv;
    this.me = me;
  }

  get(seq) {
    return this.#messages.get(seq);
  }

  get last() {
    return this.#messages.get(this.head);
  }

  // Keep a message; says whether it is new here.
  put(message) {
    if (this.#messages.has(message.seq)) return false;
    this.#messages.set(message.seq, message);
    this.head = Math.max(this.head, message.seq);
    this.typing.delete(message.from);
    if (message.from === this.me) {
      // Who writes has read what stands before.
      this.readSeq = Math.max(this.readSeq, message.seq);
      if (message.key) {
        this.#keys.set(message.key, message.seq);
        this.pending = this.pending.filter((entry) => entry.key !== message.key);
      }
    }
    return true;
  }

  holds(key) {
    return this.#keys.has(key);
  }

  // The server has said how far it goes and how far its owner has read it.
  told(head, readSeq) {
    this.head = Math.max(this.head, head);
    this.readSeq = Math.max(this.readSeq, readSeq);
    this.isKnown = true;
  }

  // A delivery is the first that is heard of it: it was made just now, or joined elsewhere.
  begun(seq) {
    if (!this.isKnown) this.told(seq, seq - 1);
  }

  // One is not in it, or not any more: its log is not one's own, and begins anew for who joins again.
  end() {
    this.forbidden = true;
    this.head = this.readSeq = 0;
    this.isKnown = false;
    this.preview = this.members = null;
    for (const map of [this.typing, this.#messages, this.#keys, this.#marks]) map.clear();
  }

  get unread() {
    if (!this.isKnown || this.forbidden) return 0;
    let count = Math.max(0, this.head - this.readSeq);
    if (count > 0 && count <= 500) {
      for (let seq = this.readSeq + 1; seq <= this.head; seq += 1) if (this.get(seq)?.from === this.me) count -= 1;
    }
    return count;
  }

  // When something happened last, in milliseconds since the epoch; 0 where nothing did.
  get activity() {
    const waiting = this.pending.at(-1);
    return Math.max((this.last ?? this.preview)?.ts ?? 0, waiting && !waiting.error ? waiting.at : 0);
  }

  get blocks() {
    return Math.ceil(this.head / BLOCK);
  }

  // The seqs of a block: [first, last].
  range(block) {
    return [block * BLOCK + 1, Math.min((block + 1) * BLOCK, this.head)];
  }

  // The first seq of a block that is not loaded, or null.
  missing(block) {
    const [first, last] = this.range(block);
    for (let seq = first; seq <= last; seq += 1) if (!this.#messages.has(seq)) return seq;
    return null;
  }

  // How far somebody is; marks only move forward.
  mark(id, { received = 0, read = 0 }) {
    const old = this.#marks.get(id) ?? { received: 0, read: 0 };
    const mark = { read: Math.max(old.read, read), received: Math.max(old.received, received, read) };
    this.#marks.set(id, mark);
    return mark.read !== old.read || mark.received !== old.received;
  }

  markOf(id) {
    return this.#marks.get(id) ?? { received: 0, read: 0 };
  }

  // What became of one's own message: {state: "stored" | "received" | "read", readers}.
  fate(seq) {
    const others = this.members ? [...this.members.keys()].filter((id) => id !== this.me) : [...this.#marks.keys()].filter((id) => id !== this.me);
    const marks = others.map((id) => this.markOf(id));
    const readers = marks.filter((mark) => mark.read >= seq).length;
    if (others.length > 0 && readers === others.length) return { state: "read", readers };
    if (others.length > 0 && marks.every((mark) => mark.received >= seq)) return { state: "received", readers };
    return { state: "stored", readers };
  }

  typingNow(now = Date.now()) {
    for (const [id, until] of this.typing) if (until <= now) this.typing.delete(id);
    return [...this.typing.keys()];
  }

  typed(id, now = Date.now()) {
    this.typing.set(id, now + TYPING);
    return TYPING;
  }
}
