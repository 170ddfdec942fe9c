// The first thing one sees: log in, or make an account.
//
// The address may bring an invitation: /#invite=CODE, which browsers keep to themselves. It stays in the address until
// somebody is logged in, so that a reload does not lose it. Whoever has only the code says so; and a server that takes
// nobody without one asks for it.

import { context } from "./context.js";
import { field, form } from "./dialog.js";
import { Component, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { languageChoice, themeChoice } from "./settings.js";

const INVITATION = /^#invite=([^&]{1,128})$/;

function invitation() {
  try {
    return decodeURIComponent(INVITATION.exec(location.hash)?.[1] ?? "").trim();
  } catch {
    return ""; // no link of ours
  }
}

export class Welcome extends Component {
  #mode = "login";
  #asked = false; // whether the form asks for an invitation

  build(signal) {
    this.#invited();
    addEventListener("hashchange", () => invitation() && this.#turn("register"), { signal });
    this.panel = h("div", { class: "welcome-panel" });
    this.append(h("main", { class: "welcome" },
      h("div", { class: "brand" }, h("span", { class: "logo" }, icon("chat")), h("h1", {}, "trio-chat"), h("p", {}, t("welcome.claim"))),
      this.panel,
      h("details", { class: "welcome-settings" }, h("summary", {}, t("welcome.look")), themeChoice(), languageChoice())));
    this.draw();
  }

  // Why one is here again, in words.
  explain(text) {
    this.panel.querySelector(".problem").textContent = text;
  }

  draw() {
    const login = this.#mode === "login";
    const name = field(t("welcome.name"), { name: "username", autocomplete: "username", maxlength: "50", required: true, autocapitalize: "off", spellcheck: "false", dir: "auto" }, login ? "" : t("welcome.nameHint"));
    const password = field(t("welcome.password"), { name: "password", type: "password", autocomplete: login ? "current-password" : "new-password", maxlength: "1024", required: true }, login ? "" : t("welcome.passwordHint"));
    const code = field(t("welcome.invitation"), { name: "invitation", maxlength: "128", required: true, autocapitalize: "off", spellcheck: "false", value: invitation() || null }, t("welcome.invitationHint"));
    const asks = !login && this.#asked;
    const element = form([name.element, password.element, asks ? code.element : []].flat(), t(login ? "welcome.login" : "welcome.register"), async () => {
      if (login) await context.client.login(name.input.value.trim(), password.input.value);
      else await this.#register(name.input.value.trim(), password.input.value, asks ? code.input : null);
    });
    this.panel.replaceChildren(
      h("h2", {}, t(login ? "welcome.login" : "welcome.register")),
      asks && invitation() ? h("p", { class: "muted" }, t("welcome.invited")) : "",
      element,
      h("p", { class: "other" }, t(login ? "welcome.noAccount" : "welcome.hasAccount"), " ",
        h("button", { type: "button", class: "link", onclick: () => this.#turn(login ? "register" : "login", name.input.value) }, t(login ? "welcome.register" : "welcome.login"))),
      login || asks ? "" : h("p", { class: "other" }, h("button", { type: "button", class: "link", onclick: () => this.#ask(name.input.value, password.input.value) }, t("welcome.haveInvitation"))));
  }

  async #register(name, password, code) {
    try {
      await context.client.register(name, password, code?.value.trim());
    } catch (error) {
      if (error?.error !== "bad_invitation") throw error;
      if (code) {
        code.select();
        throw error;
      }
      this.#ask(name, password);
      this.explain(t("welcome.needsInvitation"));
    }
  }

  // Ask for an invitation too; what was written stays.
  #ask(name, password) {
    this.#asked = true;
    this.draw();
    const [first, second, third] = this.panel.querySelectorAll("input");
    [first.value, second.value] = [name, password];
    third.focus();
  }

  // Whether the address brings an invitation: then one is here to register.
  #invited() {
    if (!invitation()) return;
    this.#mode = "register";
    this.#asked = true;
  }

  #turn(mode, name = this.panel.querySelector("input").value) {
    this.#mode = mode;
    if (mode === "register") this.#invited();
    this.draw();
    const input = this.panel.querySelector("input");
    input.value = name;
    input.focus();
  }
}

customElements.define("tc-welcome", Welcome);
