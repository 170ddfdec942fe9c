// The kinds of frames and the errors of docs/protocol.md.

export const Kind = Object.freeze({
  LOGIN: 1, LOGIN_ACK: 2, LOGOUT: 3, REGISTER: 4, REGISTER_ACK: 5, DIRECT: 6, ADD_FRIEND: 7, CREATE_GROUP: 8,
  JOIN_GROUP: 9, GROUP: 10, HELLO: 20, HELLO_ACK: 21, PING: 22, PONG: 23, REPLY: 24, RECEIVED: 25, READ: 26,
  HISTORY: 27, CONVERSATIONS: 28, PRESENCE: 29, TYPING: 30, FIND_USER: 31, SEARCH: 32, GROUP_INFO: 33, DELIVERED: 34,
  CHANGE_PASSWORD: 35, LOGINS: 36, REVOKE_LOGIN: 37, LOGOUT_EVERYWHERE: 38, EXPORT: 39, DELETE_ACCOUNT: 40,
  LEAVE_GROUP: 45, REMOVE_MEMBER: 46, BLOCK: 47, UNBLOCK: 48, BLOCKED: 49,
});

// The refusals after which the same request may well succeed.
const PUT_OFF = new Set(["unavailable", "rate_limited", "shutting_down"]);

// What a "forbidden" means is told by the request's kind; these names are ours.
const FORBIDDEN = {
  [Kind.LOGIN]: "disabled", [Kind.DIRECT]: "apart", [Kind.ADD_FRIEND]: "apart", [Kind.JOIN_GROUP]: "barred", [Kind.REMOVE_MEMBER]: "not_creator",
};

// A request failed. `error` is the stable name on the wire, or one of ours: those above, "connection_lost", "signed_out",
// "timeout".
export class ChatError extends Error {
  constructor(error, text = error, retryAfter = 0) {
    super(text);
    this.name = "ChatError";
    this.error = error;
    this.retryAfter = retryAfter;
  }

  get isPutOff() {
    return PUT_OFF.has(this.error);
  }
}

// The connection is of no more use: the shell closes it and connects again.
export class ConnectionLost extends Error {}

// What an answer says went wrong, or null. A classic refusal has no name: its number is told by the request's kind.
export function refusal(fields, kind) {
  if (!fields.errno) return null;
  const classic = kind === Kind.REGISTER ? "name_taken" : kind === Kind.LOGIN ? "bad_credentials" : "bad_request";
  let name = typeof fields.error === "string" ? fields.error : classic;
  if (name === "forbidden") name = FORBIDDEN[kind] ?? name;
  return new ChatError(name, String(fields.errmsg ?? name), Number(fields.retry_after) || 0);
}

export const directConv = (one, other) => `d:${Math.min(one, other)}:${Math.max(one, other)}`;
export const groupConv = (id) => `g:${id}`;
export const isGroup = (conv) => conv.startsWith("g:");
export const groupOf = (conv) => Number(conv.slice(2));

// The other one of a direct conversation; oneself in the one with oneself.
export function peerOf(conv, me) {
  const [low, high] = conv.slice(2).split(":").map(Number);
  return low === me ? high : low;
}
