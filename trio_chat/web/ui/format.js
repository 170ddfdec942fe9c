// Times, days, names and colours as they are shown.

import { language, t } from "./i18n.js";

const formats = new Map();

function format(options, date) {
  const name = language() + JSON.stringify(options);
  if (!formats.has(name)) formats.set(name, new Intl.DateTimeFormat(language(), options));
  return formats.get(name).format(date);
}

export const dayOf = (ts) => new Date(ts).toDateString();

function daysAgo(ts) {
  const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
  return Math.round((midnight(new Date()) - midnight(new Date(ts))) / 86400000);
}

export const clock = (ts) => format({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" }, ts);

export const fullTime = (ts) => format({ dateStyle: "full", timeStyle: "short" }, ts);

export const dayAndTime = (ts) => format({ dateStyle: "medium", timeStyle: "short", hourCycle: "h23" }, ts);

// A day as a heading: Today, Yesterday, Monday, 3 March.
export function day(ts) {
  const ago = daysAgo(ts);
  if (ago === 0) return t("day.today");
  if (ago === 1) return t("day.yesterday");
  if (ago > 1 && ago < 7) return format({ weekday: "long" }, ts);
  const sameYear = new Date(ts).getFullYear() === new Date().getFullYear();
  return format(sameYear ? { weekday: "long", day: "numeric", month: "long" } : { day: "numeric", month: "long", year: "numeric" }, ts);
}

// A time in a list: the clock today, else the day, as short as can be.
export function when(ts) {
  const ago = daysAgo(ts);
  if (ago <= 0) return clock(ts);
  if (ago === 1) return t("day.yesterday");
  if (ago < 7) return format({ weekday: "short" }, ts);
  const sameYear = new Date(ts).getFullYear() === new Date().getFullYear();
  return format(sameYear ? { day: "numeric", month: "short" } : { day: "numeric", month: "numeric", year: "2-digit" }, ts);
}

// A number in a small round sign; nothing where there is none.
export const shortCount = (count) => (count > 999 ? "999+" : count > 0 ? String(count) : "");

const HUES = 10;

// The same for everybody and for ever: made from the id.
export const hue = (id) => (Math.imul(id, 2654435761) >>> 8) % HUES;

// One or two letters of a name.
export function initials(name) {
  const words = name.trim().split(/[\s._-]+/u).filter((word) => /[\p{L}\p{N}]/u.test(word));
  const letter = (word) => Array.from(word).find((character) => /[\p{L}\p{N}]/u.test(character)) ?? "";
  if (words.length === 0) return Array.from(name.trim())[0] ?? "?";
  if (words.length === 1 || /\p{Script=Han}|\p{Script=Hangul}|\p{Script=Hiragana}|\p{Script=Katakana}/u.test(words[0])) return letter(words[0]).toUpperCase();
  return (letter(words[0]) + letter(words.at(-1))).toUpperCase();
}
