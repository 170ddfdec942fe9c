// A round sign for a person or a group: initials on a colour that stays.

import { h, icon } from "./dom.js";
import { hue, initials } from "./format.js";

export function avatar(id, name, { group = false, online = null, size = "" } = {}) {
  return h("span", { class: `avatar hue-${hue(group ? id + 4 : id)} ${group ? "square" : ""} ${size}`, "aria-hidden": "true" },
    name ? initials(name) : icon(group ? "group" : "person"),
    online === null ? null : h("span", { class: online ? "dot online" : "dot" }));
}
