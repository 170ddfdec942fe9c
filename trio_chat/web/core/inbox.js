// The order of what is received: which message is new, which was seen, what is missing, which receipt is due.
//
// Rules and reasons (those of the client library, trio_chat/client/inbox.py):
//
// - A conversation's *position* is the `seq` up to which all was handed on, or was sent by this very connection. What is
//   at or below it was seen before (the server delivers again what was not receipted): dropped, and receipted again.
// - The first frame that is seen of a conversation defines its position. The acknowledgement of an own message does not:
//   a repeated `key` is acknowledged with an old place.
// - The acknowledgement of an own message stands in that message's place: there is no frame for it here.
// - Where something above the next place turns up the conversation is *behind*: only its `target` is remembered, and
//   HISTORY is asked for the rest. Nothing after a hole is handed on before the hole is filled.
// - Another device's receipt moves the account's cursor, so after a reconnect the server may begin behind our position.
//   The page can look up any part of the log when somebody looks at it, so it moves on instead of fetching all of it.

export const PAGE = 50;

export class Inbox {
  #convs = new Map(); // conv -> {position, target, filling}
  #receipts = new Map();

  clear() {
    this.#convs.clear();
    this.#receipts.clear();
  }

  position(name) {
    return this.#convs.get(name)?.position ?? null;
  }

  // A delivered message. Says whether it is the next one of its conversation, to be handed on now.
  offer(name, seq) {
    let conv = this.#convs.get(name);
    if (!conv) this.#convs.set(name, (conv = { position: seq - 1, target: 0, filling: false }));
    if (seq <= conv.position) {
      this.#receipts.set(name, conv.position);
      return false;
    }
    if (seq > conv.position + 1) {
      conv.target = Math.max(conv.target, seq);
      return false;
    }
    conv.position = seq;
    this.#receipts.set(name, seq);
    return true;
  }

  // The acknowledgement of a message that this connection sent.
  sent(name, seq) {
    const conv = this.#convs.get(name);
    if (!conv || seq <= conv.position) return;
    if (seq === conv.position + 1) conv.position = seq;
    else conv.target = Math.max(conv.target, seq);
  }

  // One is not in it any more: who joins again begins anew.
  forget(name) {
    this.#convs.delete(name);
    this.#receipts.delete(name);
  }

  // The account has received up to `received`, perhaps on another device: the server will not deliver these.
  receivedElsewhere(name, received) {
    const conv = this.#convs.get(name);
    if (conv && received > conv.position) conv.position = received;
  }

  // What HISTORY should be asked for: [{conv, after, limit}]. Answer each with `filled` or `fillFailed`.
  takeFills() {
    const fills = [];
    for (const [name, conv] of this.#convs) {
      if (conv.target > conv.position && !conv.filling) {
        conv.filling = true;
        fills.push({ conv: name, after: conv.position, limit: PAGE });
      }
    }
    return fills;
  }

  // The page that was asked for, as rising seqs. Says which of them are to be handed on.
  filled(fill, seqs) {
    const conv = this.#convs.get(fill.conv);
    if (!conv) return [];
    conv.filling = false;
    const fresh = seqs.filter((seq) => seq > conv.position);
    if (fresh.length === 0) {
      // The log has nothing there after all: waiting for it would hold up the conversation for ever.
      if (conv.position === fill.after) conv.target = conv.position;
      return [];
    }
    if (conv.position === fill.after && fresh[0] > conv.position + 1) conv.position = fresh[0] - 1;
    return fresh.filter((seq) => this.offer(fill.conv, seq));
  }

  fillFailed(fill, forGood) {
    const conv = this.#convs.get(fill.conv);
    if (!conv) return;
    conv.filling = false;
    if (forGood) conv.target = conv.position;
  }

  get hasReceipts() {
    return this.#receipts.size > 0;
  }

  takeReceipts() {
    const due = [...this.#receipts];
    this.#receipts.clear();
    return due;
  }
}
