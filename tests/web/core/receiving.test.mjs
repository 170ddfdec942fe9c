import assert from "node:assert/strict";
import { test } from "node:test";

import { ConnectionLost } from "../../../trio_chat/web/core/kinds.js";
import { Person } from "./person.mjs";

const shown = (person) => person.named("message").map(({ message }) => message.seq);

test("what is delivered again is neither shown nor lost, and receipted again", () => {
  const alice = new Person();
  alice.online();
  alice.deliver(4);
  alice.deliver(5);
  assert.deepEqual(alice.wait(), [{ msgid: 25, conv: "d:1:2", seq: 5 }]);
  alice.protocol.lost("cut");
  alice.online();
  alice.deliver(5);
  alice.deliver(6);
  assert.deepEqual(shown(alice), [4, 5, 6]);
  assert.deepEqual(alice.wait(), [{ msgid: 25, conv: "d:1:2", seq: 6 }]);
});

test("a hole is filled before anything after it is shown or receipted", () => {
  const alice = new Person();
  alice.online();
  alice.deliver(1);
  alice.wait();
  const [history] = alice.deliver(4);
  assert.deepEqual([history.msgid, history.conv, history.after], [27, "d:1:2", 1]);
  assert.deepEqual(shown(alice), [1]);
  const messages = [2, 3, 4].map((seq) => ({ msgid: 6, id: 2, name: "bob", msg: "x", conv: "d:1:2", seq, ts: seq }));
  alice.receive({ msgid: 24, ref: history.ref, errno: 0, messages, more: false });
  assert.deepEqual(shown(alice), [1, 2, 3, 4]);
  assert.deepEqual(alice.wait(), [{ msgid: 25, conv: "d:1:2", seq: 4 }]);
});

test("a hole that cannot be filled now is asked for again, on the next connection too", () => {
  const alice = new Person();
  alice.online();
  alice.deliver(1);
  const [history] = alice.deliver(3);
  alice.receive({ msgid: 24, ref: history.ref, errno: 130, error: "unavailable", errmsg: "-" });
  let asked = [];
  while (!asked.some((frame) => frame.msgid === 27)) asked = alice.wait();
  alice.protocol.lost("cut");
  assert.ok(alice.online().some((frame) => frame.msgid === 27 && frame.after === 1));
});

test("the answer to an own message stands in that message's place", async () => {
  const alice = new Person();
  alice.online();
  alice.deliver(1);
  alice.protocol.send({ key: "k", conv: "d:1:2", text: "mine" }, alice.now);
  const [frame] = alice.take();
  alice.receive({ msgid: 24, ref: frame.ref, errno: 0, conv: "d:1:2", seq: 2, ts: 2 });
  assert.deepEqual(alice.deliver(3).filter(({ msgid }) => msgid === 27), []);
  assert.deepEqual(shown(alice), [1, 3]);
  assert.equal(alice.named("stored")[0].seq, 2);
});

test("what another device received is no hole", () => {
  const alice = new Person();
  alice.online();
  alice.deliver(1);
  alice.protocol.inbox.receivedElsewhere("d:1:2", 7);
  alice.deliver(8);
  assert.deepEqual(shown(alice), [1, 8]);
});

test("only a lost connection escapes, whatever the server sends", () => {
  for (const text of ["", "nonsense", "[]", "null", "{}", '{"msgid":"6"}', '{"msgid":6}', '{"msgid":6,"conv":"d:1:2","seq":1}']) {
    const alice = new Person();
    alice.online();
    assert.throws(() => alice.protocol.receive(text, alice.now), ConnectionLost, text);
  }
  const alice = new Person();
  alice.online();
  for (const msgid of [0, 1, 24, 99, 26, 29, 30, 34]) alice.receive({ msgid, ref: "no such", errno: 0 });
});

test("a silent server is asked for a sign of life, and then given up", () => {
  const alice = new Person();
  alice.online();
  alice.now += 1;
  let frames = alice.wait();
  assert.equal(frames[0].msgid, 22);
  assert.ok(alice.now >= 160);
  alice.receive({ msgid: 23, ref: frames[0].ref });
  frames = alice.wait();
  assert.equal(frames[0].msgid, 22);
  assert.throws(() => alice.wait(), ConnectionLost);
});

test("silence while an answer is awaited is noticed sooner", () => {
  const alice = new Person();
  alice.online();
  const start = alice.now;
  alice.protocol.send({ key: "k", conv: "d:1:2", text: "mine" }, alice.now);
  alice.take();
  assert.equal(alice.wait()[0].msgid, 22);
  assert.throws(() => alice.wait(), ConnectionLost);
  assert.ok(alice.now - start < 20);
});

test("a group that one was removed from, or left, is forgotten, and begins anew", () => {
  const alice = new Person();
  alice.online();
  alice.deliver(4, "text", "g:7");
  alice.receive({ msgid: 45, groupid: 7 });
  assert.deepEqual(alice.named("left"), [{ group: 7 }]);
  assert.ok(alice.wait().every(({ msgid }) => msgid !== 25)); // no receipt
  alice.deliver(9, "text", "g:7");
  assert.deepEqual(shown(alice), [4, 9]);
  alice.protocol.request(45, { groupid: 7 }, alice.now);
  const [leave] = alice.take();
  alice.receive({ msgid: 24, ref: leave.ref, errno: 0 });
  assert.deepEqual(alice.named("left"), [{ group: 7 }, { group: 7 }]);
});
