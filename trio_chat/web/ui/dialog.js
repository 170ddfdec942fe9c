// Dialogs: the browser's own, which keeps the focus inside, closes on Escape and gives the focus back.

import { h, icon } from "./dom.js";
import { explain, t } from "./i18n.js";

let dialogs = 0;

// `build(dialog)` gives the content.
export function openDialog(title, build, { className = "", ...props } = {}) {
  const id = `dialog-${(dialogs += 1)}`;
  const dialog = h("dialog", { class: `dialog ${className}`, "aria-labelledby": id, ...props });
  const content = h("div", { class: "dialog-content" });
  dialog.append(
    h("header", { class: "dialog-head" }, h("h2", { id }, title),
      h("button", { type: "button", class: "round quiet", "aria-label": t("close"), onclick: () => dialog.close() }, icon("close"))),
    content);
  content.append(...[build(dialog)].flat());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  dialog.querySelector("[autofocus]")?.focus();
  return dialog;
}

// Ask before something is done that cannot be taken back. `act` may fail: then it says why, and can be tried again.
export function openQuestion(title, texts, label, act, choice = null) {
  const id = `question-${dialogs}`;
  const words = h("div", { id, class: "question" }, texts.filter(Boolean).map((text) => h("p", { dir: "auto" }, text)));
  return openDialog(title, (dialog) => form([words, choice], label, async () => {
    await act();
    dialog.close();
  }, { style: "destructive", cancel: () => dialog.close() }), { className: "narrow", role: "alertdialog", "aria-describedby": id });
}

export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
}

let fields = 0;

// A labelled field with a hint and room for what is wrong with it.
export function field(label, props = {}, hint = "") {
  const id = `field-${(fields += 1)}`;
  const input = h("input", { id, class: "input", autocomplete: "off", ...props, "aria-describedby": `${id}-hint` });
  return { input, element: h("div", { class: "field" }, h("label", { for: id }, label), input, h("p", { id: `${id}-hint`, class: "hint" }, hint)) };
}

// A form whose submission does something that may fail: `act` is awaited, its error is said in plain words.
// With `cancel` there is a second button, which has the focus: Enter alone destroys nothing.
export function form(children, label, act, { style = "primary", cancel = null } = {}) {
  const problem = h("p", { class: "problem", role: "alert" });
  const button = h("button", { type: "submit", class: `button ${style}` }, label);
  const back = cancel && h("button", { type: "button", class: "button", autofocus: true, onclick: cancel }, t("cancel"));
  const element = h("form", { class: "form", novalidate: true }, children, problem, back ? h("div", { class: "buttons" }, back, button) : button);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-busy") === "true") return;
    problem.textContent = "";
    const empty = [...element.querySelectorAll("input[required]")].find((input) => !input.value.trim());
    if (empty) {
      problem.textContent = t("form.missing", { field: element.querySelector(`label[for="${empty.id}"]`).textContent });
      empty.focus();
      return;
    }
    button.setAttribute("aria-busy", "true");
    try {
      await act();
    } catch (error) {
      problem.textContent = typeof error === "string" ? error : explain(error);
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
  return element;
}
