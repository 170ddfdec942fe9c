// The account, and how the page looks, speaks and calls.

import { read } from "../state/storage.js";
import { openAccount } from "./account.js";
import { avatar } from "./avatar.js";
import { context } from "./context.js";
import { openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { LANGUAGES, language, setLanguage, t } from "./i18n.js";
import { canNotify, notifies, turnNotifications } from "./notify.js";
import { setTheme } from "./theme.js";

const THEMES = ["system", "light", "dark"];

// A choice of one among a few.
export function choices(label, name, options, chosen, choose) {
  return h("fieldset", { class: "choices" }, h("legend", {}, label),
    h("div", {}, options.map(([value, text]) => h("label", { class: "choice", lang: name === "language" ? value : null },
      h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => choose(value) }), h("span", {}, text)))));
}

export const themeChoice = () => choices(t("settings.theme"), "theme", THEMES.map((name) => [name, t(`theme.${name}`)]), read("theme") ?? "system", setTheme);

export const languageChoice = () => choices(t("settings.language"), "language", Object.entries(LANGUAGES).map(([tag, { name }]) => [tag, name]), language(), (tag) => {
  setLanguage(tag);
  document.querySelector("tc-app").rebuild();
});

export function openSettings() {
  const { store, client } = context;
  const { id, name } = store.session;
  const note = h("p", { class: "hint", role: "status" }, canNotify() ? "" : t("notify.impossible"));
  const notify = h("input", { type: "checkbox", checked: notifies(), disabled: !canNotify(), onchange: async (event) => {
    const box = event.currentTarget;
    const wanted = box.checked;
    box.checked = await turnNotifications(wanted);
    note.textContent = wanted && !box.checked ? t("notify.denied") : "";
  } });
  const unsent = client.outbox.list().length;
  openDialog(t("settings.title"), (dialog) => [
    h("div", { class: "me" }, avatar(id, name), h("div", {}, h("p", { class: "details-name" }, h("bdi", {}, name)), h("p", { class: "muted" }, t("settings.share", { id })))),
    themeChoice(),
    languageChoice(),
    h("div", { class: "choices" }, h("label", { class: "choice" }, notify, h("span", {}, t("notify.label"))), note),
    unsent > 0 ? h("p", { class: "hint" }, t("settings.unsent", { count: unsent })) : [],
    h("button", { type: "button", class: "button", onclick: () => {
      dialog.close();
      openAccount();
    } }, t("account.open")),
    h("button", { type: "button", class: "button danger", onclick: () => {
      dialog.close();
      client.logout();
    } }, t("settings.logout")),
  ].flat());
}
