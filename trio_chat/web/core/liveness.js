// Noticing that the server is gone although the connection looks alive.

import { ConnectionLost } from "./kinds.js";

const GREETING = 15;
// While somebody waits for an answer, so many seconds of silence are enough to ask whether anybody is there.
const IMPATIENT = 8;

// A server must greet in time. After that, two heartbeats without a frame make the page ask (PING); one more without
// an answer, and the connection is given up. While an answer is awaited it is asked sooner.
export class Liveness {
  deadline = null;
  #greeted = false;
  #asked = false;
  #heardAt = 0;

  connected(now) {
    this.#greeted = this.#asked = false;
    this.deadline = now + GREETING;
  }

  lost() {
    this.deadline = null;
  }

  heard(now, heartbeat) {
    this.#greeted = true;
    this.#asked = false;
    this.#heardAt = now;
    this.deadline = now + 2 * heartbeat;
  }

  // A request was sent at `now`.
  awaits(now) {
    if (!this.#greeted || this.#asked) return;
    this.deadline = Math.min(this.deadline, Math.max(this.#heardAt, now) + IMPATIENT);
  }

  // Says whether to ask for a sign of life now. Throws ConnectionLost where there was none for too long.
  check(now, heartbeat) {
    if (this.deadline === null || now < this.deadline) return false;
    if (!this.#greeted) throw new ConnectionLost("no greeting");
    if (this.#asked) throw new ConnectionLost("no sign of life");
    this.#asked = true;
    this.deadline = now + Math.min(heartbeat, IMPATIENT);
    return true;
  }
}
