// Which blocks of a long log are in the page, and how high the rest is.
//
// A log of any length is cut into blocks. Only those around what can be seen are elements; the others are two empty
// spaces, as high as the blocks were when they were measured, or as high as blocks are on average.

export class Window {
  #heights = new Map();
  #sum = 0;

  constructor(guess) {
    this.guess = guess;
  }

  measured(block, height) {
    const old = this.#heights.get(block);
    if (old === height) return;
    this.#sum += height - (old ?? 0);
    this.#heights.set(block, height);
  }

  forget() {
    this.#heights.clear();
    this.#sum = 0;
  }

  get average() {
    return this.#heights.size > 0 ? this.#sum / this.#heights.size : this.guess;
  }

  height(block) {
    return this.#heights.get(block) ?? this.average;
  }

  // How high the blocks [first, end) are together.
  span(first, end) {
    let sum = 0;
    for (let block = first; block < end; block += 1) sum += this.height(block);
    return sum;
  }

  // The blocks [first, end) that lie between two places, of `count`.
  between(top, bottom, count) {
    let first = 0;
    let y = 0;
    while (first < count - 1 && y + this.height(first) < top) y += this.height(first++);
    let end = first;
    while (end < count && y < bottom) y += this.height(end++);
    return [first, Math.max(end, Math.min(first + 1, count))];
  }
}
