// What the page knows, in one place. Whoever changes something says which topic; who watches a topic is told once per
// frame of the screen, however often it changed.
//
// Topics: "session", "connection", "lists" (people, groups, the order of conversations, unread), "prefs", and each
// conversation's name.

import { groupOf, isGroup, peerOf } from "../core/kinds.js";
import { Conversation } from "./conversation.js";

export class Store {
  session = null; // {id, name, token}
  connection = { phase: "connecting", online: false, retryAt: 0, failures: 0 };
  loaded = false; // whether the list of conversations is known
  people = new Map(); // id -> {id, name, friend, online}
  groups = new Map(); // id -> {id, name, about, users: [{id, name, role, online}]}
  groupNames = new Map(); // id -> the name of a group that one is not in; "" where there is none of this id
  blocked = new Map(); // id -> name, of whom one has blocked
  conversations = new Map();
  current = null; // the name of the conversation that is shown

  #watchers = new Map();
  #changed = new Set();
  #scheduled = false;

  // Call `callback(topic)` when a topic changed, until the signal aborts. "*" is any conversation.
  watch(topics, callback, signal) {
    for (const topic of topics) {
      if (!this.#watchers.has(topic)) this.#watchers.set(topic, new Set());
      this.#watchers.get(topic).add(callback);
      signal?.addEventListener("abort", () => this.#watchers.get(topic).delete(callback));
    }
  }

  changed(...topics) {
    for (const topic of topics) this.#changed.add(topic);
    if (this.#scheduled) return;
    this.#scheduled = true;
    // A hidden page draws no frames, but its title has to change.
    requestAnimationFrame(() => this.#tell());
    setTimeout(() => this.#tell(), document.hidden ? 50 : 500);
  }

  #tell() {
    if (!this.#scheduled) return;
    this.#scheduled = false;
    const topics = this.#changed;
    this.#changed = new Set();
    const callbacks = new Set();
    for (const topic of topics) {
      for (const callback of this.#watchers.get(topic) ?? []) callbacks.add(callback);
      if (topic.includes(":")) for (const callback of this.#watchers.get("*") ?? []) callbacks.add(callback);
    }
    for (const callback of callbacks) {
      try {
        callback(topics);
      } catch (error) {
        reportError(error); // one part's defect must not keep the others from being told
      }
    }
  }

  reset() {
    this.people.clear();
    this.groups.clear();
    this.groupNames.clear();
    this.blocked.clear();
    this.conversations.clear();
    this.loaded = false;
    this.current = null;
    this.changed("lists", "session");
  }

  // The conversation of this name, made where it is new.
  conversation(conv) {
    let found = this.conversations.get(conv);
    if (!found) {
      found = new Conversation(conv, this.session.id);
      this.conversations.set(conv, found);
      this.changed("lists");
    }
    return found;
  }

  get me() {
    return this.session?.id ?? 0;
  }

  person(id) {
    if (id === this.me) return { id, name: this.session.name, friend: false, online: true };
    return this.people.get(id) ?? null;
  }

  meet(id, fields) {
    const known = this.people.get(id) ?? { id, name: "", friend: false, online: false };
    this.people.set(id, { ...known, ...fields });
    this.changed("lists");
  }

  get friends() {
    return [...this.people.values()].filter((person) => person.friend && !this.blocked.has(person.id));
  }

  // Those to be listed, the latest first; those without any message at the end, by name.
  get listed() {
    const shown = [...this.conversations.values()].filter((one) => !one.forbidden || one.conv === this.current || one.pending.length > 0).filter((one) => one.head > 0 || one.pending.length > 0 || isGroup(one.conv) || one.conv === this.current);
    return shown.sort((a, b) => b.activity - a.activity || this.title(a.conv).localeCompare(this.title(b.conv)));
  }

  get unread() {
    let sum = 0;
    for (const conversation of this.conversations.values()) sum += conversation.unread;
    return sum;
  }

  // The name that a conversation is shown by; empty where it is not known (yet).
  title(conv) {
    if (isGroup(conv)) return this.groups.get(groupOf(conv))?.name ?? this.groupNames.get(groupOf(conv)) ?? "";
    return this.person(peerOf(conv, this.me))?.name ?? "";
  }

  nameOf(id, conv) {
    const known = this.person(id)?.name;
    if (known || !conv || !isGroup(conv)) return known ?? "";
    return this.groups.get(groupOf(conv))?.users.find((user) => user.id === id)?.name ?? "";
  }
}
