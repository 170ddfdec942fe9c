// Light or dark: as the system has it, unless somebody chose.

import { read, write } from "../state/storage.js";

export function applyTheme(theme = read("theme")) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

export function setTheme(theme) {
  write("theme", theme === "system" ? null : theme);
  applyTheme(theme);
}
