// The first thing one sees: log in, or make an account.

import { context } from "./context.js";
import { field, form } from "./dialog.js";
import { Component, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { languageChoice, themeChoice } from "./settings.js";

export class Welcome extends Component {
  #mode = "login";
  #invited = false;

  build() {
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
    const invitation = field(t("welcome.invitation"), { name: "invitation", maxlength: "128", required: true, autocapitalize: "off", spellcheck: "false" }, t("welcome.invitationHint"));
    const element = form([name.element, password.element, login || !this.#invited ? [] : invitation.element].flat(), t(login ? "welcome.login" : "welcome.register"), async () => {
      if (login) await context.client.login(name.input.value.trim(), password.input.value);
      else await this.#register(name.input.value.trim(), password.input.value, invitation.input.value.trim());
    });
    this.panel.replaceChildren(
      h("h2", {}, t(login ? "welcome.login" : "welcome.register")),
      element,
      h("p", { class: "other" }, t(login ? "welcome.noAccount" : "welcome.hasAccount"), " ",
        h("button", { type: "button", class: "link", onclick: () => this.#turn(login ? "register" : "login", name.input.value) }, t(login ? "welcome.register" : "welcome.login"))));
  }

  // Only a server that refuses to go on without an invitation is asked with one.
  async #register(name, password, invitation) {
    try {
      await context.client.register(name, password, invitation);
    } catch (error) {
      if (error?.error !== "bad_invitation" || this.#invited) throw error;
      this.#invited = true;
      this.draw();
      const [first, second, third] = this.panel.querySelectorAll("input");
      [first.value, second.value] = [name, password];
      third.focus();
    }
  }

  #turn(mode, name) {
    this.#mode = mode;
    this.draw();
    const input = this.panel.querySelector("input");
    input.value = name;
    input.focus();
  }
}

customElements.define("tc-welcome", Welcome);
