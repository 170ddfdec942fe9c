// A Protocol with a clock, and a server that answers as it is told.

import { Protocol } from "../../../trio_chat/web/core/protocol.js";

export class Person {
  events = [];
  sent = [];
  now = 100;

  constructor() {
    this.protocol = new Protocol((name, detail) => this.events.push([name, detail]), { random: () => 0.5 });
  }

  // Take what was sent since the last time.
  take() {
    this.sent = this.protocol.takeOutput().map((text) => JSON.parse(text));
    return this.sent;
  }

  receive(fields) {
    this.protocol.receive(JSON.stringify(fields), this.now);
    return this.take();
  }

  named(name) {
    return this.events.filter((event) => event[0] === name).map((event) => event[1]);
  }

  // Connect and be greeted; what is sent then.
  connect() {
    this.protocol.connected(this.now);
    const [hello] = this.take();
    return this.receive({ msgid: 21, ref: hello.ref, version: 1, limits: { frame: 65536, message: 16384 }, heartbeat: 30 });
  }

  // Connect and go on as account 1; what is sent after the login.
  online() {
    this.protocol.resume({ id: 1, name: "alice", token: "t" }, this.now);
    const [login] = this.connect();
    return this.accept(login);
  }

  accept(login) {
    return this.receive({ msgid: 2, ref: login.ref, errno: 0, id: 1, name: "alice", token: "t", friends: [], groups: [] });
  }

  deliver(seq, text = `text ${seq}`, conv = "d:1:2", from = 2, key = undefined) {
    return this.receive({ msgid: 6, id: from, name: "bob", toid: 1, msg: text, conv, seq, ts: seq, key });
  }

  // Let the time pass until the protocol wants to be called.
  wait() {
    this.now = Math.max(this.now, this.protocol.deadline);
    this.protocol.tick(this.now);
    return this.take();
  }
}
