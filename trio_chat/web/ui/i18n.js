// The language of the page. A further one is a file in lang/ and a row here.

import en from "../lang/en.js";
import zh from "../lang/zh.js";
import { read, write } from "../state/storage.js";

export const LANGUAGES = { en: { name: "English", texts: en }, zh: { name: "中文", texts: zh } };

let current = "en";
let plurals = new Intl.PluralRules("en");

export function language() {
  return current;
}

// What somebody chose, or else what their browser asks for.
export function chooseLanguage(chosen = read("language")) {
  const wanted = [chosen, ...navigator.languages].map((tag) => String(tag ?? "").toLowerCase().split("-")[0]);
  current = wanted.find((tag) => tag in LANGUAGES) ?? "en";
  plurals = new Intl.PluralRules(current);
  document.documentElement.lang = current;
}

export function setLanguage(tag) {
  write("language", tag);
  chooseLanguage(tag);
}

// The text of a key, with {name} filled in. With `count` the key's form for that number is taken: key.one, key.other.
export function t(key, values = {}) {
  const texts = LANGUAGES[current].texts;
  let text = texts[key];
  if ("count" in values) text = texts[`${key}.${plurals.select(values.count)}`] ?? texts[`${key}.other`];
  return (text ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

// A name within a sentence: its direction is its own.
export const isolated = (name) => `\u2068${name}\u2069`;

// An error in plain words.
export function explain(error) {
  const key = `error.${error?.error}`;
  return key in LANGUAGES[current].texts ? t(key, { seconds: Math.ceil(error.retryAfter || 1) }) : t("error.other", { text: error?.message ?? "" });
}
