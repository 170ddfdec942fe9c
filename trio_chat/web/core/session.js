// The states of a session, and what moves it from one to the other (as trio_chat/client/state.py has it).
//
//             connected            greeted               login-sent              accepted
//   offline ------------> greeting ---------> anonymous ------------> signing-in ----------> online
//      ^                                        ^  ^                      |                     |
//      |                                        |  +------ refused -------+                     |
//      |                                        +---------------------- signed-out -------------+
//      +---- lost, from any of them

import { Kind } from "./kinds.js";

const TRANSITIONS = {
  offline: { connected: "greeting" },
  greeting: { greeted: "anonymous", lost: "offline" },
  anonymous: { "login-sent": "signing-in", lost: "offline" },
  "signing-in": { accepted: "online", refused: "anonymous", lost: "offline" },
  online: { "signed-out": "anonymous", lost: "offline" },
};

export function transition(state, cause) {
  const next = TRANSITIONS[state]?.[cause];
  if (!next) throw new Error(`${cause} cannot happen while ${state}`);
  return next;
}

// Whether a request of this kind may be sent in this state.
export function allowed(state, kind) {
  return kind === Kind.REGISTER ? state === "anonymous" : state === "online";
}
