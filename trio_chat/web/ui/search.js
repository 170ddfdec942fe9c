// Searching one's own messages, in all conversations or in one.

import { groupOf, isGroup, peerOf } from "../core/kinds.js";
import { avatar } from "./avatar.js";
import { context } from "./context.js";
import { openDialog } from "./dialog.js";
import { h, icon } from "./dom.js";
import { when } from "./format.js";
import { explain, t } from "./i18n.js";

const PAUSE = 300; // after the last key
const AROUND = 60; // characters that are shown on both sides of what was found

export function openSearch(conv = null) {
  const { store, client } = context;
  const input = h("input", { type: "search", class: "input", maxlength: "100", autofocus: true, dir: "auto", "aria-label": t("search.label"), placeholder: t("search.label"), enterkeyhint: "search" });
  const status = h("p", { class: "hint", role: "status" }, t("search.hint"));
  const list = h("ul", { class: "found" });
  const more = h("button", { type: "button", class: "button", hidden: true, onclick: () => find(true) }, t("search.more"));
  const here = conv ? h("label", { class: "choice" }, h("input", { type: "checkbox", checked: true }), h("span", {}, t("search.here", { name: store.title(conv) }))) : null;
  let timer = 0;
  let turn = 0;
  let last = null;

  async function find(next = false) {
    clearTimeout(timer);
    const query = input.value.trim();
    const mine = (turn += 1);
    if (!next) {
      last = null;
      more.hidden = true;
    }
    if (!query) {
      list.replaceChildren();
      status.textContent = t("search.hint");
      return;
    }
    status.textContent = t("search.running");
    try {
      const within = here?.querySelector("input").checked ? conv : null;
      const { messages, more: goesOn } = await client.history.search(query, within, next ? last : null);
      if (mine !== turn) return;
      if (!next) list.replaceChildren();
      list.append(...messages.map((message) => result(message, query, dialog)));
      last = messages.at(-1) ?? last;
      more.hidden = !goesOn;
      const count = list.childElementCount;
      status.textContent = count === 0 ? t("search.none", { query }) : goesOn ? t("search.atLeast", { count }) : t("search.found", { count });
    } catch (error) {
      if (mine === turn) status.textContent = explain(error);
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, PAUSE);
  });
  input.addEventListener("keydown", (event) => event.key === "Enter" && find());
  here?.addEventListener("change", () => find());
  const dialog = openDialog(t("search.title"), () => [h("div", { class: "search-field" }, icon("search"), input), here ?? [], status, list, more].flat(), { className: "tall" });
}

function result(message, query, dialog) {
  const { store } = context;
  const { conv, seq } = message;
  const group = isGroup(conv);
  const id = group ? groupOf(conv) : peerOf(conv, store.me);
  const title = store.title(conv) || t(group ? "group.unknown" : "person.unknown", { id });
  const from = message.from === store.me ? t("person.you") : store.nameOf(message.from, conv) || message.name;
  return h("li", {}, h("a", { class: "entry", href: `#${conv}/${seq}`, onclick: () => dialog.close() },
    avatar(id, title, { group }),
    h("span", { class: "entry-text" },
      h("span", { class: "entry-top" }, h("bdi", { class: "entry-title" }, title), h("time", {}, when(message.ts))),
      h("span", { class: "excerpt" }, t("list.from", { name: from }), h("bdi", {}, excerpt(message.text, query))))));
}

// The part of a text around the first word that was found, with the words marked.
function excerpt(text, query) {
  const words = query.toLowerCase().split(/\s+/u).filter(Boolean);
  const lower = text.toLowerCase();
  const first = Math.min(...words.map((word) => lower.indexOf(word)).filter((at) => at >= 0), text.length);
  const start = first < AROUND ? 0 : first - AROUND;
  const part = (start > 0 ? "…" : "") + text.slice(start, first + 2 * AROUND).replaceAll("\n", " ") + (first + 2 * AROUND < text.length ? "…" : "");
  const nodes = [];
  let at = 0;
  const partLower = part.toLowerCase();
  while (at < part.length) {
    const hits = words.map((word) => [partLower.indexOf(word, at), word.length]).filter(([index]) => index >= 0).sort((a, b) => a[0] - b[0] || b[1] - a[1]);
    if (hits.length === 0) break;
    const [index, length] = hits[0];
    nodes.push(part.slice(at, index), h("mark", {}, part.slice(index, index + length)));
    at = index + length;
  }
  return [...nodes, part.slice(at)];
}
