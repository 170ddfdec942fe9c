// How long to wait before the next attempt.

// Waiting times that double from `first` up to `limit` seconds. Each is drawn evenly between a fifth of it and the
// whole, so that many pages which lost one server do not come back at one moment.
export class Backoff {
  #first;
  #limit;
  #random;
  #next;

  constructor(first, limit, random = Math.random) {
    this.#first = first;
    this.#limit = limit;
    this.#random = random;
    this.#next = first;
  }

  delay() {
    const longest = Math.min(this.#next, this.#limit);
    this.#next = Math.min(longest * 2, this.#limit);
    return longest * (0.2 + 0.8 * this.#random());
  }

  reset() {
    this.#next = this.#first;
  }

  // After a refusal: what the server asks for, else `delay`.
  after(error) {
    return error.retryAfter > 0 ? error.retryAfter * (1 + 0.1 * this.#random()) : this.delay();
  }
}
