// Ties the protocol to the store: what happens on the connection, and what the person wants.

import { ChatError, groupOf, Kind } from "../core/kinds.js";
import { Link } from "../core/link.js";
import { Protocol } from "../core/protocol.js";
import { Account } from "./account.js";
import { Contacts } from "./contacts.js";
import { History } from "./history.js";
import { Memory } from "./memory.js";
import { Outbox } from "./outbox.js";
import { read, watch, write } from "./storage.js";
import { Tabs } from "./tabs.js";

const TYPING_EVERY = 3000;
const LEFT = { bad_credentials: "expired", login_revoked: "revoked", disabled: "disabled" };
const PATIENCE = 20000; // so long somebody waits for the answer to what they asked for

export class Client extends EventTarget {
  tabs = new Tabs();
  outbox = null;
  #typed = new Map();
  #memory;
  #reading = new Map(); // conv -> the seq that READ will tell

  constructor(store, url) {
    super();
    this.store = store;
    this.protocol = new Protocol((name, detail) => this.#happened(name, detail));
    this.link = new Link(url, this.protocol, () => this.#connectionChanged());
    this.history = new History(this);
    this.contacts = new Contacts(this);
    this.account = new Account(this);
    this.#memory = new Memory(store);
    this.tabs.listen(() => store.me, (type, detail) => this.#told(type, detail));
    watch((name, value) => this.#storageChanged(name, value));
    addEventListener("online", () => this.link.hurry());
    addEventListener("offline", () => this.link.cut());
    document.addEventListener("visibilitychange", () => !document.hidden && this.link.hurry());
    addEventListener("pagehide", () => this.tabs.tell(store.me, "bye"));
    addEventListener("pageshow", (event) => event.persisted && this.link.hurry());
  }

  // Connect; go on as who was logged in before.
  start() {
    const session = read("session");
    if (session?.token && Number.isInteger(session.id)) {
      this.#enter(session);
      this.link.run((protocol, now) => protocol.resume({ ...session }, now));
    }
    this.link.start();
  }

  // Ask the server something. Rejects with a ChatError.
  ask(kind, fields, options = {}) {
    return this.link.run((protocol, now) => protocol.request(kind, fields, now, options)) ?? Promise.reject(new ChatError("connection_lost"));
  }

  // The same for what somebody waits for in front of the screen.
  askNow(kind, fields) {
    return this.#soon(kind, this.ask(kind, fields));
  }

  // Accounts.

  async login(name, password) {
    await this.#soon(Kind.LOGIN, this.link.run((protocol, now) => protocol.login({ name, password }, now)));
  }

  async register(name, password, invitation) {
    await this.askNow(Kind.REGISTER, { name, password, ...(invitation && { invitation }) });
    await this.login(name, password);
  }

  async logout() {
    write("session", null);
    if (this.store.connection.online) await this.askNow(Kind.LOGOUT, {}).catch(() => {});
    if (this.store.session) this.#leave("logged_out");
  }

  // Messages.

  // Send a text; it is shown and kept at once. Says whether it survives a reload.
  send(conv, text) {
    const entry = this.outbox.make(conv, text);
    const conversation = this.store.conversation(conv);
    conversation.pending = [...conversation.pending, entry];
    this.#typed.delete(conv);
    this.store.changed(conv, "lists");
    this.link.run((protocol, now) => protocol.send(entry, now));
    return this.outbox.isKept(entry.key);
  }

  retry(conv, key) {
    const entry = this.store.conversation(conv).pending.find((one) => one.key === key);
    if (!entry) return;
    delete entry.error;
    this.outbox.keep(entry);
    this.store.changed(conv);
    this.link.run((protocol, now) => protocol.send(entry, now));
  }

  discard(conv, key) {
    const conversation = this.store.conversation(conv);
    conversation.pending = conversation.pending.filter((entry) => entry.key !== key);
    this.outbox.remove(key);
    this.store.changed(conv, "lists");
  }

  typing(conv) {
    if (!this.store.connection.online || Date.now() - (this.#typed.get(conv) ?? 0) < TYPING_EVERY) return;
    this.#typed.set(conv, Date.now());
    this.ask(Kind.TYPING, { conv }).catch(() => {});
  }

  // Somebody has seen a conversation up to `seq`.
  seen(conv, seq) {
    const conversation = this.store.conversation(conv);
    if (seq <= conversation.readSeq) return;
    conversation.readSeq = seq;
    this.store.changed("lists", conv);
    this.tabs.tell(this.store.me, "read", { conv, seq });
    this.#tellRead(conv, seq);
  }

  // READ, at most twice per second and conversation.
  #tellRead(conv, seq) {
    if (this.#reading.has(conv)) {
      this.#reading.set(conv, Math.max(seq, this.#reading.get(conv)));
      return;
    }
    this.#reading.set(conv, seq);
    setTimeout(() => {
      const latest = this.#reading.get(conv);
      this.#reading.delete(conv);
      if (this.store.session) this.ask(Kind.READ, { conv, seq: latest }, { repeatable: true }).catch(() => {});
    }, 500);
  }

  // What happened on the connection.

  #happened(name, detail) {
    switch (name) {
      case "online":
        this.#online(detail);
        break;
      case "message":
        this.#arrived(detail.message);
        break;
      case "stored":
        this.#stored(detail);
        break;
      case "refused":
        this.#refused(detail);
        break;
      case "left":
        this.contacts.left(detail.group);
        break;
      case "presence":
        this.store.meet(detail.id, { online: detail.online });
        break;
      case "read":
      case "delivered": {
        const conversation = this.store.conversation(detail.conv);
        const mark = name === "read" ? { read: detail.seq } : { received: detail.seq };
        if (conversation.mark(detail.id, mark)) this.store.changed(detail.conv, "lists");
        break;
      }
      case "typing": {
        const until = this.store.conversation(detail.conv).typed(detail.id);
        this.store.changed(detail.conv, "lists");
        setTimeout(() => this.store.changed(detail.conv, "lists"), until + 50);
        break;
      }
      case "signedOut":
        if (this.store.session) this.#leave(LEFT[detail.error.error] ?? "logged_out");
        break;
      default:
        this.history.wake();
        this.#connectionChanged();
    }
  }

  #online({ id, name, token, friends, groups }) {
    if (this.store.me !== id) this.#enter({ id, name, token });
    write("session", { id, name, token });
    this.store.session = { id, name, token };
    this.contacts.loggedIn(friends, groups);
    this.#adopt();
    this.history.wake();
    this.#connectionChanged();
  }

  #enter(session) {
    this.store.reset();
    this.store.session = session;
    this.outbox = new Outbox(session.id);
    this.#memory.restore();
    this.#showPending();
    this.store.changed("session", "lists");
  }

  #leave(reason) {
    write("session", null);
    if (reason !== "expired") this.#memory.forget(); // others may use this browser
    this.outbox = null;
    this.store.session = null;
    this.store.reset();
    this.link.stop();
    this.protocol.account = null;
    this.protocol.inbox.clear();
    this.link.start();
    this.dispatchEvent(new CustomEvent("left", { detail: reason }));
  }

  // Take over what was left unsent here, by an earlier page or another tab.
  #adopt() {
    this.#showPending();
    for (const entry of this.outbox.list()) {
      if (!entry.error) this.link.run((protocol, now) => protocol.send(entry, now));
    }
  }

  #showPending() {
    const entries = byConversation(this.outbox.list());
    for (const conversation of this.store.conversations.values()) conversation.pending = [];
    for (const [conv, list] of entries) {
      const conversation = this.store.conversation(conv);
      conversation.pending = list.filter((entry) => !conversation.holds(entry.key));
      this.store.changed(conv);
    }
  }

  #arrived(message) {
    const conversation = this.store.conversation(message.conv);
    if (this.store.loaded) conversation.begun(message.seq);
    const isNew = this.history.keep(message);
    this.contacts.met(message);
    if (isNew && message.from !== this.store.me && message.seq > conversation.readSeq) {
      this.dispatchEvent(new CustomEvent("message", { detail: message }));
    }
  }

  #stored({ message, conv, seq, ts }) {
    const { id, name } = this.store.session;
    const before = this.store.conversation(conv).readSeq;
    this.history.keep({ conv, seq, ts, from: id, name, text: message.text, key: message.key });
    if (before === seq - 1) this.#tellRead(conv, seq); // writing is reading; only the server does not know it
    this.outbox.remove(message.key);
  }

  #refused({ message, error }) {
    const entry = this.store.conversation(message.conv).pending.find((one) => one.key === message.key);
    if (!entry) return;
    entry.error = error.error;
    // Done on another device, perhaps.
    if (error.error === "apart") this.contacts.findBlocked();
    if (error.error === "not_a_member") this.contacts.details(groupOf(message.conv), true);
    this.outbox.keep(entry);
    this.store.changed(message.conv, "lists");
  }

  #connectionChanged() {
    const { phase, retryAt, failures } = this.link;
    this.store.connection = { phase, retryAt, failures, online: this.protocol.state === "online", state: this.protocol.state };
    this.store.changed("connection");
  }

  // What other tabs did.

  #told(type, detail) {
    if (type === "bye" && this.store.connection.online) this.#adopt();
    else if (type === "read") {
      const conversation = this.store.conversation(detail.conv);
      conversation.readSeq = Math.max(conversation.readSeq, detail.seq);
      this.store.changed("lists", detail.conv);
      this.dispatchEvent(new CustomEvent("read", { detail }));
    } else this.contacts.told(type, detail);
  }

  #storageChanged(name, value) {
    if (name === "session") this.#sessionChanged(value);
    const key = this.outbox?.keyOf(name);
    if (!key) return;
    if (!value) {
      this.#goneElsewhere(key);
      return;
    }
    const conversation = this.store.conversation(value.conv);
    if (conversation.holds(key)) return;
    conversation.pending = [...conversation.pending.filter((entry) => entry.key !== key), value].sort((a, b) => a.at - b.at);
    this.store.changed(value.conv, "lists");
  }

  // Another tab has thrown an entry away, or it was stored: then its delivery is on the way, and takes its place.
  #goneElsewhere(key) {
    for (const conversation of this.store.conversations.values()) {
      const entry = conversation.pending.find((one) => one.key === key);
      if (!entry?.error) continue;
      conversation.pending = conversation.pending.filter((one) => one !== entry);
      this.store.changed(conversation.conv, "lists");
    }
  }

  #sessionChanged(session) {
    if (session?.id === this.store.me && session) {
      this.store.session = session;
      if (this.protocol.account) this.protocol.account.token = session.token;
    } else if (this.store.session && !session) this.#leave("logged_out");
    else location.reload(); // somebody logged in, or another one did
  }

  // Somebody waits in front of the screen: fail rather than wait for ever.
  async #soon(kind, promise) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => {
        this.protocol.forget(kind);
        reject(new ChatError("timeout"));
      }, PATIENCE);
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
      promise?.catch?.(() => {});
    }
  }
}

function byConversation(entries) {
  const map = new Map();
  for (const entry of entries) map.set(entry.conv, [...(map.get(entry.conv) ?? []), entry]);
  return map;
}
