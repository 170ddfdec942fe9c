// Making elements. Texts become text nodes, never markup; there is no way here to insert HTML.

// h("button", {class: "x", onclick: f, disabled: true}, "text", child, [more])
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const PATHS = {
  back: "M15 5l-7 7 7 7",
  check: "M4 12.5l5 5L20 6.5",
  checks: "M1.5 12.5l5 5L17 6.5M11.5 16.5l1.5 1.5L23 7",
  clock: "M12 21a9 9 0 100-18 9 9 0 000 18zM12 7v5l3.5 2",
  close: "M6 6l12 12M18 6L6 18",
  down: "M6 9l6 6 6-6",
  failed: "M12 21a9 9 0 100-18 9 9 0 000 18zM12 7.5v6M12 16.4v.1",
  group: "M9 11a3.5 3.5 0 100-7 3.5 3.5 0 000 7zM2.5 20c.4-3.6 3-5.5 6.5-5.5s6.1 1.9 6.5 5.5M16 4.3a3.5 3.5 0 010 6.4M18 14.9c2 .7 3.2 2.4 3.5 5.1",
  info: "M12 21a9 9 0 100-18 9 9 0 000 18zM12 11v6M12 7.4v.1",
  person: "M12 11.5a4 4 0 100-8 4 4 0 000 8zM4.5 20.5c.5-4 3.5-6 7.5-6s7 2 7.5 6",
  plus: "M12 5v14M5 12h14",
  search: "M10.5 17.5a7 7 0 100-14 7 7 0 000 14zM15.7 15.7L21 21",
  send: "M4.5 12L3.5 4.5 21 12 3.5 19.5 4.5 12zM4.5 12H12",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 9.5a2.5 2.5 0 100-5 2.5 2.5 0 000 5zM9 19.5a2.5 2.5 0 100-5 2.5 2.5 0 000 5z",
  smile: "M12 21a9 9 0 100-18 9 9 0 000 18zM8.5 14.5c.8 1.2 2 1.9 3.5 1.9s2.7-.7 3.5-1.9M9 9.5v.6M15 9.5v.6",
  chat: "M4 5.5h16v11H10l-4.5 3.5v-3.5H4z",
};

const SVG = "http://www.w3.org/2000/svg";

export function icon(name, className = "icon") {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

// Make a parent's children those of `items`, keeping the elements whose key and signature are the same, so that focus
// and selections stay. `signature` tells what an element shows, `create` makes one.
export function reconcile(parent, items, { key, signature, create }) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    const shows = signature(item);
    let element = old.get(name);
    old.delete(name);
    if (!element || element.shows !== shows) {
      const fresh = create(item, element);
      fresh.dataset.key = name;
      fresh.shows = shows;
      if (element && element !== fresh) {
        const focused = element.contains(document.activeElement);
        if (place === element) place = fresh;
        element.replaceWith(fresh);
        if (focused) (fresh.matches("a, button, [tabindex]") ? fresh : fresh.querySelector("a, button, [tabindex]"))?.focus();
      }
      element = fresh;
    }
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const element of old.values()) element.remove();
}

// A component: builds itself when it is put into the page, and ends what it watches when it is taken out.
export class Component extends HTMLElement {
  #ends = null;

  connectedCallback() {
    this.#ends = new AbortController();
    this.build(this.#ends.signal);
  }

  disconnectedCallback() {
    this.#ends.abort();
    this.replaceChildren();
  }
}
