// A message's text as nodes: links can be clicked, everything else is text and stays text.

import { h } from "./dom.js";

// No blanks, quotes or angle brackets, and none of the invisible characters that make a link look like another one.
const LINK = /\bhttps?:\/\/[^\s<>"'`\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+/giu;
const TRAILING = /[.,;:!?)\]}»”’。，、；：！？）】」]+$/u;
const EMOJI = /^(?:\p{Extended_Pictographic}|\p{Regional_Indicator}|[\p{Emoji_Modifier}\u200d\ufe0f\u20e3\s])+$/u;

export function rich(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const shown = trimmed(match[0]);
    const address = safe(shown);
    if (!address) continue;
    nodes.push(text.slice(end, match.index));
    nodes.push(h("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow", dir: "ltr" }, shown));
    end = match.index + shown.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}

// A sentence's punctuation is not part of the address; a bracket is where one was opened in it.
function trimmed(link) {
  const rest = link.replace(TRAILING, "");
  return link[rest.length] === ")" && rest.includes("(") && !rest.includes(")") ? `${rest})` : rest;
}

function safe(link) {
  try {
    const url = new URL(link);
    return (url.protocol === "https:" || url.protocol === "http:") && !url.username && url.hostname ? url.href : null;
  } catch {
    return null;
  }
}

// One to six emoji and nothing else: shown large.
export function isEmoji(text) {
  return text.length <= 48 && /\p{Extended_Pictographic}|\p{Regional_Indicator}/u.test(text) && EMOJI.test(text) && [...new Intl.Segmenter().segment(text.replace(/\s/g, ""))].length <= 6;
}
