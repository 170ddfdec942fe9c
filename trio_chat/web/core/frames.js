// Frames as they cross the wire, and what they mean here.

import { ConnectionLost, groupOf, isGroup, Kind, peerOf } from "./kinds.js";

// A message as a request: {kind, fields, message}.
export function messageRequest(message, me) {
  const { conv, text, key } = message;
  const target = isGroup(conv) ? { groupid: groupOf(conv) } : { toid: peerOf(conv, me) };
  return { kind: isGroup(conv) ? Kind.GROUP : Kind.DIRECT, fields: { ...target, msg: text, key }, message };
}

// A frame's fields. Throws ConnectionLost where it is none.
export function parse(text) {
  let fields;
  try {
    fields = JSON.parse(text);
  } catch {
    throw new ConnectionLost("a frame of the server is not JSON");
  }
  if (!Number.isInteger(fields?.msgid)) throw new ConnectionLost("a frame of the server has no msgid");
  return fields;
}

// A DIRECT or GROUP frame, or an entry of HISTORY or SEARCH, as a message.
export function delivered(fields) {
  const { conv, seq, ts, id, name, msg, key } = fields;
  if (typeof conv !== "string" || !Number.isInteger(seq) || !Number.isInteger(id) || typeof msg !== "string") {
    throw new ConnectionLost("a message of the server lacks a field");
  }
  return { conv, seq, ts: Number(ts) || 0, from: id, name: String(name ?? ""), text: msg, key: key ?? null };
}
