// The messages that wait for their acknowledgement, in the order in which they were given.
//
// A message is sent again, with its key, until the server has stored or refused it. One message of a conversation is
// under way at a time: were the next one sent before the first is acknowledged, it could be stored although the first
// was put off, and the order would be lost. Conversations do not wait for each other.

export class Outgoing {
  #lanes = new Map(); // conv -> [message]
  #idle = new Set(); // lanes whose first message is not under way

  clear() {
    this.#lanes.clear();
    this.#idle.clear();
  }

  get hasReady() {
    return this.#idle.size > 0;
  }

  has(key) {
    return [...this.#lanes.values()].some((lane) => lane.some((message) => message.key === key));
  }

  add(message) {
    const lane = this.#lanes.get(message.conv);
    if (lane) lane.push(message);
    else {
      this.#lanes.set(message.conv, [message]);
      this.#idle.add(message.conv);
    }
  }

  // The messages that can be sent now; each counts as under way from here on.
  start() {
    const ready = [...this.#idle].map((conv) => this.#lanes.get(conv)[0]);
    this.#idle.clear();
    return ready;
  }

  // Stored or refused: the next one of its conversation may go.
  finish(message) {
    const lane = this.#lanes.get(message.conv);
    const index = lane ? lane.findIndex((other) => other.key === message.key) : -1;
    if (index < 0) return;
    lane.splice(index, 1);
    if (lane.length === 0) {
      this.#lanes.delete(message.conv);
      this.#idle.delete(message.conv);
    } else if (index === 0) this.#idle.add(message.conv);
  }

  // Not stored, or that is not known: it goes again.
  putOff(message) {
    if (this.#lanes.get(message.conv)?.[0]?.key === message.key) this.#idle.add(message.conv);
  }
}
