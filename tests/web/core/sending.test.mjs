import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../../../trio_chat/web/core/backoff.js";
import { ConnectionLost } from "../../../trio_chat/web/core/kinds.js";
import { Person } from "./person.mjs";

const message = (key, conv = "d:1:2") => ({ key, conv, text: `text of ${key}` });
const keys = (frames) => frames.filter((frame) => frame.key).map((frame) => frame.key);
const stored = (person, frame, seq) => person.receive({ msgid: 24, ref: frame.ref, errno: 0, conv: "d:1:2", seq, ts: seq });

test("one message of a conversation is under way at a time, conversations do not wait for each other", () => {
  const alice = new Person();
  alice.online();
  for (const one of [message("a"), message("b"), message("c", "g:7")]) alice.protocol.send(one, alice.now);
  const frames = alice.take();
  assert.deepEqual(keys(frames), ["a", "c"]);
  assert.deepEqual([frames[0].toid, frames[1].groupid], [2, 7]);
  assert.deepEqual(keys(stored(alice, frames[0], 1)), ["b"]);
});

test("what was not acknowledged goes again after a loss, with its key and in order", () => {
  const alice = new Person();
  alice.online();
  for (const key of ["a", "b"]) alice.protocol.send(message(key), alice.now);
  alice.take();
  alice.protocol.lost("cut");
  alice.protocol.send(message("c"), alice.now);
  const [again] = alice.online();
  assert.equal(again.key, "a");
  const [next] = stored(alice, again, 1);
  assert.equal(next.key, "b");
  assert.deepEqual(keys(stored(alice, next, 2)), ["c"]);
});

test("a message that the server could not store goes again, and those behind it wait", () => {
  const alice = new Person();
  alice.online();
  for (const key of ["a", "b"]) alice.protocol.send(message(key), alice.now);
  const [frame] = alice.take();
  assert.deepEqual(keys(alice.receive({ msgid: 24, ref: frame.ref, errno: 130, error: "unavailable", errmsg: "-" })), []);
  assert.deepEqual(keys(alice.wait()), ["a"]);
});

test("a message that will never be stored is told of, and does not hold up the next", () => {
  const alice = new Person();
  alice.online();
  for (const key of ["a", "b"]) alice.protocol.send(message(key), alice.now);
  const [frame] = alice.take();
  assert.deepEqual(keys(alice.receive({ msgid: 24, ref: frame.ref, errno: 120, error: "too_large", errmsg: "-" })), ["b"]);
  assert.equal(alice.named("refused")[0].error.error, "too_large");
});

test("a server that drains is left once no answer is lost by it", async () => {
  const alice = new Person();
  alice.online();
  const answer = alice.protocol.request(8, { groupname: "x", groupdesc: "" }, alice.now);
  const [frame] = alice.take();
  alice.receive({ msgid: 24, errno: 131, error: "shutting_down", errmsg: "-" });
  assert.throws(() => alice.receive({ msgid: 24, ref: frame.ref, errno: 0, groupid: 3 }), ConnectionLost);
  assert.equal((await answer).groupid, 3);
});

test("a lost connection fails what cannot be repeated and repeats the rest", async () => {
  const alice = new Person();
  alice.online();
  const once = alice.protocol.request(8, { groupname: "x" }, alice.now);
  const again = alice.protocol.request(28, {}, alice.now, { repeatable: true });
  alice.take();
  alice.protocol.lost("cut");
  await assert.rejects(once, { error: "connection_lost" });
  const [frame] = alice.online();
  assert.equal(frame.msgid, 28);
  alice.receive({ msgid: 24, ref: frame.ref, errno: 0, conversations: [] });
  assert.deepEqual((await again).conversations, []);
});

test("an expired token ends the session; a busy server does not", () => {
  const alice = new Person();
  alice.protocol.resume({ id: 1, name: "alice", token: "t" }, alice.now);
  const [login] = alice.connect();
  alice.receive({ msgid: 2, ref: login.ref, errno: 121, error: "rate_limited", errmsg: "-", retry_after: 2 });
  assert.equal(alice.named("signedOut").length, 0);
  const start = alice.now;
  const [second] = alice.wait();
  assert.ok(alice.now - start >= 2);
  alice.receive({ msgid: 2, ref: second.ref, errno: 1, error: "bad_credentials", errmsg: "-" });
  assert.equal(alice.named("signedOut")[0].error.error, "bad_credentials");
  assert.equal(alice.protocol.account, null);
});

test("a login waits for the connection, and is told why it was refused", async () => {
  const alice = new Person();
  const login = alice.protocol.login({ name: "alice", password: "wrong" }, alice.now);
  const [frame] = alice.connect();
  assert.deepEqual([frame.name, frame.password], ["alice", "wrong"]);
  alice.receive({ msgid: 2, ref: frame.ref, errno: 1, error: "bad_credentials", errmsg: "-" });
  await assert.rejects(login, { error: "bad_credentials" });
});

test("waiting times double up to a limit, and are spread", () => {
  const longest = new Backoff(1, 8, () => 1);
  assert.deepEqual([1, 2, 3, 4, 5].map(() => longest.delay()), [1, 2, 4, 8, 8]);
  longest.reset();
  assert.equal(longest.delay(), 1);
  assert.ok(Math.abs(new Backoff(10, 80, () => 0).delay() - 2) < 1e-9);
});
