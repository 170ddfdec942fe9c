// The messages that the server has not acknowledged yet, kept in this browser: a reload or a crash loses none.
//
// Each is an entry of its own, so tabs do not overwrite each other's. Any tab may send any of them: the key makes that
// harmless. An entry is {key, conv, text, at, error?}; `error` is why the server will never store it.

import { names, read, write } from "./storage.js";

let last = 0;

export class Outbox {
  #account;
  #unkept = new Map(); // what the browser refused to keep lives as long as the page

  constructor(account) {
    this.#account = account;
  }

  // All entries, in the order in which they were written.
  list() {
    const kept = names(`outbox:${this.#account}:`).map(read).filter((entry) => entry?.key && entry.conv && entry.text);
    return [...kept, ...this.#unkept.values()].sort((a, b) => a.at - b.at);
  }

  // A new entry. `kept` says whether it survives a reload.
  make(conv, text) {
    last = Math.max(Date.now(), last + 1);
    return this.keep({ key: newKey(), conv, text, at: last });
  }

  keep(entry) {
    if (write(this.#name(entry.key), entry)) this.#unkept.delete(entry.key);
    else this.#unkept.set(entry.key, entry);
    return entry;
  }

  isKept(key) {
    return !this.#unkept.has(key);
  }

  remove(key) {
    this.#unkept.delete(key);
    write(this.#name(key), null);
  }

  // Whether a name in the storage is an entry of this outbox: its key, or null.
  keyOf(name) {
    const prefix = this.#name("");
    return name.startsWith(prefix) ? name.slice(prefix.length) : null;
  }

  #name(key) {
    return `outbox:${this.#account}:${key}`;
  }
}

// Not crypto.randomUUID, which exists only on https and localhost.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(18));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}
