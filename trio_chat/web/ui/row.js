// One message as a row of the timeline.

import { isGroup } from "../core/kinds.js";
import { avatar } from "./avatar.js";
import { h, icon } from "./dom.js";
import { clock, day, dayOf, fullTime } from "./format.js";
import { explain, t } from "./i18n.js";
import { isEmoji, rich } from "./text.js";

const RUN = 5 * 60 * 1000; // within this time a person's messages stand together
const LONG = 1600;
const MANY_LINES = 24;

const ICONS = { sending: "clock", stored: "check", received: "checks", read: "checks", failed: "failed" };

// Where a message stands among its neighbours; `previous` is undefined where that is not loaded.
export function position(message, previous, isFirst) {
  const newDay = isFirst || (previous !== undefined && dayOf(previous.ts) !== dayOf(message.ts));
  const goesOn = !newDay && previous !== undefined && previous.from === message.from && message.ts - previous.ts < RUN;
  return { newDay, goesOn };
}

// `view`: {conv, me, place, fate, isUnreadStart, isFound, isExpanded, expand, retry, discard, name}
export function row(message, view) {
  const { place, fate } = view;
  const own = message.from === view.me;
  const name = view.name || t("person.unknown", { id: message.from });
  const kind = `row ${own ? "own" : "theirs"} ${place.goesOn ? "goes-on" : "begins"} ${view.isFound ? "found" : ""} ${fate?.state === "failed" ? "failed" : ""}`;
  const withFace = isGroup(view.conv) && !own;
  return h("div", { class: kind, role: "listitem", dataset: message.seq ? { seq: message.seq } : { pending: message.key } },
    place.newDay ? h("p", { class: "day" }, h("span", {}, day(message.ts))) : null,
    view.isUnreadStart ? h("p", { class: "unread-line" }, h("span", {}, t("timeline.unread"))) : null,
    h("div", { class: "line" },
      withFace ? (place.goesOn ? h("span", { class: "avatar-gap" }) : avatar(message.from, name, { size: "small" })) : null,
      h("div", { class: isEmoji(message.text) ? "bubble large-emoji" : "bubble" },
        h("span", { class: withFace && !place.goesOn ? "author" : "sr-only" }, h("bdi", {}, own ? t("person.you") : name)),
        body(message, view),
        h("span", { class: "meta" },
          h("time", { datetime: new Date(message.ts).toISOString(), title: fullTime(message.ts) }, clock(message.ts)),
          own ? status(fate) : null))),
    fate?.state === "failed" ? failure(message, fate, view) : null);
}

function body(message, view) {
  if (!message.text) return h("div", { class: "text muted" }, t("message.erased"));
  const text = h("div", { class: "text", dir: "auto" }, rich(message.text));
  const long = message.text.length > LONG || message.text.split("\n").length > MANY_LINES;
  if (!long || view.isExpanded) return text;
  text.classList.add("folded");
  return [text, h("button", { type: "button", class: "link more", onclick: () => view.expand(message) }, t("message.more"))];
}

function status(fate) {
  const words = fate.state === "stored" && fate.readers > 0 ? t("state.readers", { count: fate.readers }) : t(`state.${fate.state}`);
  return h("span", { class: `state ${fate.state}`, title: words }, icon(ICONS[fate.state]), h("span", { class: "sr-only" }, words));
}

function failure(message, fate, view) {
  return h("div", { class: "failure" },
    h("span", {}, explain({ error: fate.error })),
    h("button", { type: "button", class: "link", onclick: () => view.retry(message) }, t("message.retry")),
    h("button", { type: "button", class: "link", onclick: () => view.discard(message) }, t("message.discard")));
}

// A place that is kept for messages which are being loaded.
export function placeholder(height) {
  const element = h("div", { class: "placeholder", "aria-hidden": "true" });
  element.style.height = `${height}px`;
  return element;
}
