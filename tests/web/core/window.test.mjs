import assert from "node:assert/strict";
import { test } from "node:test";

import { BLOCK, Conversation } from "../../../trio_chat/web/state/conversation.js";
import { Window } from "../../../trio_chat/web/ui/window.js";

const message = (seq, from = 2, key = null) => ({ conv: "d:1:2", seq, ts: seq, from, name: "x", text: "t", key });

test("blocks that were not measured are as high as blocks are on average", () => {
  const window = new Window(100);
  assert.equal(window.span(0, 10), 1000);
  window.measured(3, 200);
  assert.equal(window.span(0, 10), 2000);
  window.measured(4, 100);
  assert.equal(window.height(0), 150);
  window.measured(3, 100);
  assert.equal(window.span(0, 10), 1000);
});

test("the blocks between two places are found, at least one of them", () => {
  const window = new Window(100);
  assert.deepEqual(window.between(0, 250, 10), [0, 3]);
  assert.deepEqual(window.between(350, 650, 10), [3, 7]);
  assert.deepEqual(window.between(5000, 6000, 10), [9, 10]);
  assert.deepEqual(window.between(-500, -100, 10), [0, 1]);
});

test("a conversation knows what it lacks, and never holds a message twice", () => {
  const conversation = new Conversation("d:1:2", 1);
  assert.ok(conversation.put(message(BLOCK + 2)));
  assert.ok(!conversation.put(message(BLOCK + 2)));
  assert.equal(conversation.blocks, 2);
  assert.deepEqual([conversation.missing(0), conversation.missing(1)], [1, BLOCK + 1]);
  conversation.put(message(BLOCK + 1));
  assert.equal(conversation.missing(1), null);
});

test("a message that waits to be sent is gone once it is there, and writing is reading", () => {
  const conversation = new Conversation("d:1:2", 1);
  conversation.put(message(1));
  assert.equal(conversation.unread, 0); // how far it was read is not known yet
  conversation.begun(1);
  conversation.pending = [{ key: "k", conv: "d:1:2", text: "t", at: 1 }];
  assert.equal(conversation.unread, 1);
  conversation.put(message(2, 1, "k"));
  assert.deepEqual(conversation.pending, []);
  assert.equal(conversation.unread, 0);
});

test("a message is read when all others have read it, received when all have it", () => {
  const conversation = new Conversation("g:1", 1);
  conversation.members = new Map([[1, ""], [2, ""], [3, ""]]);
  assert.deepEqual(conversation.fate(5), { state: "stored", readers: 0 });
  conversation.mark(2, { read: 5 });
  conversation.mark(3, { received: 5 });
  assert.deepEqual(conversation.fate(5), { state: "received", readers: 1 });
  conversation.mark(3, { read: 9 });
  assert.deepEqual(conversation.fate(5), { state: "read", readers: 2 });
  assert.ok(!conversation.mark(3, { read: 2 }));
});
