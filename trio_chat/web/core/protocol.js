// The page's side of the protocol: without DOM, without I/O, without a clock.
//
// Texts and the time go in (`connected`, `receive`, `tick`, `lost`), and so do the page's wishes (`login`, `request`,
// `send`). Frames come out (`takeOutput`), outcomes through promises, everything else through `emit(name, detail)`:
//
//   message {message, live}   the next message of a conversation; live: it was delivered, not looked up
//   stored {message, conv, seq, ts}   an own message is durable
//   refused {message, error}          an own message will never be stored
//   online {friends, groups, id, name, token}    logged in (again)
//   offline {reason}, signedOut {error}, presence, read, delivered, typing
//   left {group}              the account is not in this group any more: it asked for it, here or elsewhere, or was removed
//
// `receive` and `tick` throw ConnectionLost where the connection is of no more use; the shell then closes it, calls
// `lost`, connects again and calls `connected`. `deadline` says when `tick` is due. Times are seconds of any steady clock.

import { Backoff } from "./backoff.js";
import { delivered, messageRequest, parse } from "./frames.js";
import { Inbox } from "./inbox.js";
import { ChatError, ConnectionLost, groupConv, Kind, refusal } from "./kinds.js";
import { Liveness } from "./liveness.js";
import { Outgoing } from "./outgoing.js";
import { allowed, transition } from "./session.js";

const RECEIPT_DELAY = 0.1;
const ENDS_LOGIN = new Set([Kind.LOGOUT, Kind.LOGOUT_EVERYWHERE, Kind.DELETE_ACCOUNT]);

export class Protocol {
  state = "offline";
  account = null; // {id, name, token} from a login until a logout, or until logging in again is refused
  greeting = { heartbeat: 30, limits: { frame: 65536, message: 16384 } };
  inbox = new Inbox();

  #emit;
  #client;
  #output = [];
  #nextRef = 1;
  #underWay = new Map();
  #waiting = [];
  #outgoing = new Outgoing();
  #liveness = new Liveness();
  #backoff;
  #loggingIn = null;
  #loginAt = 0;
  #sendsAt = 0;
  #fillsAt = 0;
  #receiptsAt = null;
  #leaving = "";

  constructor(emit, { client = "trio-chat page", random = Math.random } = {}) {
    this.#emit = emit;
    this.#client = client;
    this.#backoff = new Backoff(0.5, 20, random);
  }

  // The connection.

  connected(now) {
    this.#move("connected");
    this.#leaving = "";
    this.#liveness.connected(now);
    this.#write({ kind: Kind.HELLO, fields: { version: 1, client: this.#client, receipts: true } }, now);
  }

  receive(text, now) {
    this.#frame(parse(text), now);
    if (this.state !== "greeting") {
      this.#liveness.heard(now, this.greeting.heartbeat);
      if (this.#underWay.size > 0) this.#liveness.awaits(now);
    }
    this.#leaveIfIdle();
    this.#pump(now);
  }

  tick(now) {
    if (this.#liveness.check(now, this.greeting.heartbeat)) this.#write({ kind: Kind.PING, fields: {} }, now);
    this.#leaveIfIdle();
    this.#pump(now);
  }

  // The connection is closed or broken. What can be sent again waits for the next one, the rest fails.
  lost(reason) {
    if (this.state === "offline") return;
    this.#move("lost");
    this.#output = [];
    this.#receiptsAt = null;
    this.#liveness.lost();
    const underWay = [...this.#underWay.values()];
    this.#underWay.clear();
    const again = [];
    for (const request of underWay) {
      if (request.message) this.#outgoing.putOff(request.message);
      else if (request.fill) this.inbox.fillFailed(request.fill, false);
      else if (request === this.#loggingIn) continue; // it waits for the next connection
      else if (request.repeatable) again.push(request);
      else {
        request.reject?.(new ChatError("connection_lost"));
        // Whether the token was revoked is not known; that the user wants to be out is.
        if (request.kind === Kind.LOGOUT) this.#signedOut(new ChatError("signed_out"));
      }
    }
    this.#waiting.unshift(...again);
    this.#emit("offline", { reason });
  }

  get deadline() {
    const due = [this.#liveness.deadline];
    if (this.#leaving) return this.#liveness.deadline;
    if (this.state === "anonymous" && this.account) due.push(this.#loginAt);
    if (this.state === "online") due.push(this.#receiptsAt, this.#outgoing.hasReady ? this.#sendsAt : null, this.#fillsAt || null);
    const times = due.filter((time) => time !== null);
    return times.length ? Math.min(...times) : null;
  }

  takeOutput() {
    const output = this.#output;
    this.#output = [];
    return output;
  }

  // The page's side.

  // Ask the server; while it is not connected the request waits. Repeatable: it may be sent again after a loss.
  request(kind, fields, now, { repeatable = false } = {}) {
    if (!this.account && kind !== Kind.REGISTER) return Promise.reject(new ChatError("signed_out"));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ kind, fields, repeatable, resolve, reject });
      this.#pump(now);
    });
  }

  // Take it back if it waits: nobody wants it any more. What was sent stays sent.
  forget(kind) {
    for (const request of this.#waiting.filter((waiting) => waiting.kind === kind)) {
      this.#waiting.splice(this.#waiting.indexOf(request), 1);
      request.reject(new ChatError("timeout"));
    }
    if (kind === Kind.LOGIN && this.state !== "signing-in" && this.#loggingIn) {
      this.#loggingIn.reject(new ChatError("timeout"));
      this.#loggingIn = null;
    }
  }

  // Log in with {name, password}, or go on with a token.
  login(fields, now) {
    if (this.account || this.#loggingIn) return Promise.reject(new ChatError("already_logged_in"));
    return new Promise((resolve, reject) => {
      this.#loggingIn = { kind: Kind.LOGIN, fields, resolve, reject };
      this.#pump(now);
    });
  }

  // Go on as an account that was logged in before: nobody waits for it, it is tried until it succeeds or is refused.
  resume(account, now) {
    this.account = account;
    this.#pump(now);
  }

  // Send {key, conv, text} until it is stored or refused. The same key again does nothing.
  send(message, now) {
    if (this.#outgoing.has(message.key)) return;
    this.#outgoing.add(message);
    this.#pump(now);
  }

  // It is stored already, as a delivery has shown. If it is under way its answer is still awaited.
  settled(message) {
    const underWay = [...this.#underWay.values()].some((request) => request.message?.key === message.key);
    if (!underWay) this.#outgoing.finish(message);
  }

  // What the server sends.

  #frame(fields, now) {
    switch (fields.msgid) {
      case Kind.DIRECT:
      case Kind.GROUP: {
        const message = delivered(fields);
        if (this.account && this.inbox.offer(message.conv, message.seq)) this.#emit("message", { message, live: true });
        break;
      }
      case Kind.PING:
        this.#put({ msgid: Kind.PONG, data: fields.data });
        break;
      case Kind.PRESENCE:
        this.#emit("presence", { id: fields.id, online: fields.state === "online" });
        break;
      case Kind.READ:
        this.#emit("read", { conv: fields.conv, seq: fields.seq, id: fields.id });
        break;
      case Kind.DELIVERED:
        this.#emit("delivered", { conv: fields.conv, seq: fields.seq, id: fields.id });
        break;
      case Kind.TYPING:
        this.#emit("typing", { conv: fields.conv, id: fields.id });
        break;
      case Kind.LEAVE_GROUP:
        this.#left(fields.groupid);
        break;
      default: {
        const request = this.#underWay.get(fields.ref);
        if (request) {
          this.#underWay.delete(fields.ref);
          this.#answered(request, fields, now);
        } else if (refusal(fields)?.error === "shutting_down") this.#leaving = "shutting down"; // said to everybody
        else if (refusal(fields)?.error === "login_revoked" && this.account) this.#signedOut(refusal(fields));
      }
    }
  }

  #answered(request, fields, now) {
    const error = refusal(fields, request.kind);
    if (error?.error === "shutting_down") this.#leaving = "shutting down";
    if (request.kind === Kind.HELLO) {
      if (error) throw new ConnectionLost(`the greeting was refused: ${error.message}`);
      this.greeting = { ...this.greeting, ...fields };
      this.#move("greeted");
      this.#loginAt = 0;
    } else if (request.kind === Kind.LOGIN) this.#loginAnswered(request, error, fields, now);
    else if (request.message) this.#messageAnswered(request.message, error, fields, now);
    else if (request.fill) this.#fillAnswered(request.fill, error, fields, now);
    else if (error) request.reject?.(error);
    else {
      if (request.kind === Kind.LEAVE_GROUP) this.#left(request.fields.groupid);
      if (ENDS_LOGIN.has(request.kind)) this.#signedOut(new ChatError("signed_out"));
      request.resolve?.(fields);
    }
  }

  #loginAnswered(request, error, fields, now) {
    const wanted = request === this.#loggingIn;
    if (wanted) this.#loggingIn = null;
    if (error) {
      this.#move("refused");
      if (wanted) request.reject(error);
      else if (error.isPutOff) this.#loginAt = now + this.#backoff.after(error);
      else this.#signedOut(error);
      return;
    }
    this.#move("accepted");
    const { id, name, token } = fields;
    if (this.account && this.account.id !== id) throw new ConnectionLost("the server logged another account in");
    this.account = { id, name, token };
    this.#sendsAt = this.#fillsAt = 0;
    this.#backoff.reset();
    this.#emit("online", { id, name, token, friends: fields.friends ?? [], groups: fields.groups ?? [] });
    if (wanted) request.resolve(this.account);
  }

  #messageAnswered(message, error, fields, now) {
    if (error?.isPutOff) {
      this.#outgoing.putOff(message);
      this.#sendsAt = Math.max(this.#sendsAt, now + this.#backoff.after(error));
      return;
    }
    this.#outgoing.finish(message);
    if (error) this.#emit("refused", { message, error });
    else {
      this.#backoff.reset();
      this.inbox.sent(fields.conv, fields.seq);
      this.#emit("stored", { message, conv: fields.conv, seq: fields.seq, ts: fields.ts });
    }
  }

  #fillAnswered(fill, error, fields, now) {
    if (error) {
      this.inbox.fillFailed(fill, !error.isPutOff);
      if (error.isPutOff) this.#fillsAt = now + this.#backoff.after(error);
      return;
    }
    const messages = new Map(fields.messages.map((entry) => [entry.seq, delivered(entry)]));
    for (const seq of this.inbox.filled(fill, [...messages.keys()].sort((a, b) => a - b))) {
      this.#emit("message", { message: messages.get(seq), live: true });
    }
  }

  #left(group) {
    this.inbox.forget(groupConv(group));
    this.#emit("left", { group });
  }

  #signedOut(error) {
    if (this.state === "online") this.#move("signed-out");
    this.account = null;
    this.inbox.clear();
    this.#outgoing.clear();
    const waiting = this.#waiting.filter((request) => request.kind !== Kind.REGISTER);
    this.#waiting = this.#waiting.filter((request) => request.kind === Kind.REGISTER);
    for (const request of waiting) request.reject(new ChatError("signed_out"));
    this.#emit("signedOut", { error });
  }

  // What is sent.

  #pump(now) {
    if (this.#leaving || this.state === "offline" || this.state === "greeting") return;
    for (const request of this.#waiting.filter((waiting) => allowed(this.state, waiting.kind))) {
      this.#waiting.splice(this.#waiting.indexOf(request), 1);
      if (request.kind === Kind.LOGOUT) this.#flushReceipts();
      this.#write(request, now);
    }
    if (this.state === "anonymous") this.#signIn(now);
    if (this.state !== "online") return;
    if (now >= this.#sendsAt) for (const message of this.#outgoing.start()) this.#write(messageRequest(message, this.account.id), now);
    if (now >= this.#fillsAt) {
      this.#fillsAt = 0;
      for (const fill of this.inbox.takeFills()) this.#write({ kind: Kind.HISTORY, fields: { ...fill }, fill }, now);
    }
    if (this.#receiptsAt !== null && now >= this.#receiptsAt) this.#flushReceipts();
    else if (this.#receiptsAt === null && this.inbox.hasReceipts) this.#receiptsAt = now + RECEIPT_DELAY;
  }

  #signIn(now) {
    let request = this.#loggingIn;
    if (!request && this.account && now >= this.#loginAt) request = { kind: Kind.LOGIN, fields: { token: this.account.token } };
    if (!request) return;
    this.#move("login-sent");
    this.#write(request, now);
  }

  #flushReceipts() {
    this.#receiptsAt = null;
    for (const [conv, seq] of this.inbox.takeReceipts()) this.#put({ msgid: Kind.RECEIVED, conv, seq });
  }

  #write(request, now) {
    const ref = this.#nextRef++;
    this.#underWay.set(ref, request);
    this.#liveness.awaits(now);
    this.#put({ msgid: request.kind, ref, ...request.fields });
  }

  #put(fields) {
    this.#output.push(JSON.stringify(fields));
  }

  #move(cause) {
    this.state = transition(this.state, cause);
  }

  // Give up a connection to a server that shuts down, once no answer would be lost by it.
  #leaveIfIdle() {
    if (this.#leaving && [...this.#underWay.values()].every((one) => one.repeatable || one.message || one.fill)) {
      throw new ConnectionLost(this.#leaving);
    }
  }
}
