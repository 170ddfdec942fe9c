// A small choice of emoji; every system brings more of them with its keyboard.

import { h, icon } from "./dom.js";
import { t } from "./i18n.js";

const EMOJI = "😀 😄 😂 🤣 😊 🙂 😉 😍 😘 😋 😎 🤔 🤨 😐 😴 😅 😢 😭 😡 😱 🥳 🤗 🙄 🤷 🙈 👍 👎 👌 👏 🙌 🙏 💪 👋 🤝 ✌️ 👀 ❤️ 🧡 💛 💚 💙 💜 💔 ✨ 🔥 🎉 🎂 ☕ 🍕 🍻 ⚽ 🚲 🚀 🌞 🌈 🌙 ⭐ ✅ ❌ ❓ ❗ 💯 📎 📅".split(" ");
const COLUMNS = 8;

export function emojiButton(chosen) {
  const buttons = EMOJI.map((emoji, index) => h("button", { type: "button", tabindex: index === 0 ? "0" : "-1", "aria-label": emoji }, emoji));
  const panel = h("div", { class: "emoji-panel", role: "group", "aria-label": t("emoji.label"), hidden: true }, buttons);
  const opener = h("button", { type: "button", class: "round quiet", "aria-label": t("emoji.open"), title: t("emoji.open"), "aria-expanded": "false" }, icon("smile"));
  const holder = h("div", { class: "emoji" }, opener, panel);

  function show(open) {
    panel.hidden = !open;
    opener.setAttribute("aria-expanded", String(open));
    if (open) (panel.querySelector("[tabindex='0']") ?? buttons[0]).focus();
  }

  function move(to) {
    const index = Math.min(Math.max(to, 0), buttons.length - 1);
    for (const button of buttons) button.tabIndex = -1;
    buttons[index].tabIndex = 0;
    buttons[index].focus();
  }

  opener.addEventListener("click", () => show(panel.hidden));
  panel.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    show(false);
    chosen(button.textContent);
  });
  holder.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: COLUMNS, ArrowUp: -COLUMNS };
    if (event.key === "Escape" && !panel.hidden) {
      event.stopPropagation();
      show(false);
      opener.focus();
    } else if (at >= 0 && event.key in steps) {
      event.preventDefault();
      move(at + steps[event.key]);
    }
  });
  holder.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !holder.contains(event.relatedTarget)) show(false);
  });
  return holder;
}
