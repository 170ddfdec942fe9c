// The WebSocket under a Protocol: connects, hands texts and the time over, waits and connects again.

import { Backoff } from "./backoff.js";
import { ConnectionLost } from "./kinds.js";

const CONNECT_TIMEOUT = 15;
// Close codes that a new connection will not mend by itself: tried again, but seldom.
const HOPELESS = new Set([1003, 1007, 1008, 1009]);

const seconds = () => performance.now() / 1000;

// `phase` is "connecting", "open", "waiting" (until `retryAt`, in seconds of `now()`) or "stopped".
export class Link {
  phase = "stopped";
  retryAt = 0;
  failures = 0;

  #url;
  #protocol;
  #changed;
  #socket = null;
  #timer = 0;
  #backoff;
  #hopeless = new Backoff(30, 120);

  constructor(url, protocol, changed, random = Math.random) {
    this.#url = url;
    this.#protocol = protocol;
    this.#changed = changed;
    this.#backoff = new Backoff(0.5, 30, random);
  }

  static now = seconds;

  start() {
    if (this.phase === "stopped") this.#connect();
  }

  // End this connection; `start` begins anew.
  stop() {
    this.#drop("stopped");
    this.#to("stopped");
  }

  // The network is back, or somebody is looking: do not wait any longer.
  hurry() {
    if (this.phase === "waiting") this.#connect();
  }

  // The network is known to be gone.
  cut() {
    if (this.phase === "open" || this.phase === "connecting") this.#lost("offline");
  }

  // Call the protocol, then send what it wants to be sent and see to its deadline.
  run(step) {
    let result;
    try {
      result = step(this.#protocol, seconds());
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      this.#lost(error.message);
      return undefined;
    }
    this.#flush();
    return result;
  }

  #connect() {
    this.#drop("replaced");
    this.#to("connecting");
    const socket = (this.#socket = new WebSocket(this.#url));
    const late = setTimeout(() => socket === this.#socket && this.#lost("no connection"), CONNECT_TIMEOUT * 1000);
    socket.onopen = () => {
      clearTimeout(late);
      if (socket !== this.#socket) return;
      this.#to("open");
      this.run((protocol, now) => protocol.connected(now));
    };
    socket.onmessage = (event) => {
      if (socket !== this.#socket) return;
      const before = this.#protocol.state;
      this.run((protocol, now) => protocol.receive(event.data, now));
      if (this.#protocol.state !== before) this.#changed();
      if (this.#protocol.state === "online" && this.failures > 0) {
        this.failures = 0;
        this.#backoff.reset();
        this.#hopeless.reset();
        this.#changed();
      }
    };
    socket.onclose = (event) => {
      clearTimeout(late);
      if (socket === this.#socket) this.#lost(`closed (${event.code})`, event);
    };
  }

  #lost(reason, event = null) {
    this.#drop(reason);
    this.failures += 1;
    this.retryAt = seconds() + this.#delay(event);
    this.#to("waiting");
    this.#wake(this.retryAt, () => this.#connect());
  }

  #delay(event) {
    if (event?.code === 1013) {
      // Full: the server says when, already spread over its clients.
      const asked = Number.parseFloat(event.reason);
      if (Number.isFinite(asked) && asked >= 0) return Math.min(asked, 300);
    }
    return HOPELESS.has(event?.code) ? this.#hopeless.delay() : this.#backoff.delay();
  }

  #drop(reason) {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this.#protocol.lost(reason);
  }

  #flush() {
    const socket = this.#socket;
    if (socket?.readyState === WebSocket.OPEN) for (const text of this.#protocol.takeOutput()) socket.send(text);
    if (this.phase === "open") {
      const deadline = this.#protocol.deadline;
      if (deadline === null) clearTimeout(this.#timer);
      else this.#wake(deadline, () => this.run((protocol, now) => protocol.tick(now)));
    }
  }

  #wake(at, step) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(step, Math.max(0, (at - seconds()) * 1000) + 1);
  }

  #to(phase) {
    this.phase = phase;
    this.#changed();
  }
}
