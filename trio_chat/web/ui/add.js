// Somebody new: a person, a group of one's own, a group of somebody else.

import { context } from "./context.js";
import { field, form, openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

const NAME = { maxlength: "50", required: true, autofocus: true, dir: "auto", spellcheck: "false", autocapitalize: "off" };

const FORMS = {
  person(dialog) {
    const { input, element } = field(t("add.name"), NAME, t("add.nameHint"));
    return form([element], t("add.personDo"), async () => {
      const friend = await context.client.contacts.addFriend(input.value);
      leave(dialog, context.client.contacts.direct(friend.id));
    });
  },

  create(dialog) {
    const name = field(t("add.groupName"), NAME, t("add.groupNameHint"));
    const about = field(t("add.groupAbout"), { maxlength: "200", dir: "auto" }, t("add.groupAboutHint"));
    return form([name.element, about.element], t("add.createDo"), async () => {
      leave(dialog, await context.client.contacts.createGroup(name.input.value.trim(), about.input.value.trim()));
    });
  },

  join(dialog) {
    const { input, element } = field(t("add.groupName"), NAME, t("add.joinHint"));
    return form([element], t("add.joinDo"), async () => leave(dialog, await context.client.contacts.joinGroup(input.value)));
  },
};

function leave(dialog, conv) {
  dialog.close();
  location.hash = conv;
}

export function openAdd(first = "person") {
  openDialog(t("add.title"), (dialog) => {
    const place = h("div", { id: "add-form", role: "tabpanel" });
    const tabs = Object.keys(FORMS).map((name) =>
      h("button", { type: "button", role: "tab", id: `add-${name}`, "aria-controls": "add-form", onclick: () => choose(name) }, t(`add.${name}`)));
    const bar = h("div", { class: "tabs", role: "tablist", "aria-label": t("add.title") }, tabs);
    bar.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const at = tabs.indexOf(document.activeElement);
      if (!step || at < 0) return;
      const next = tabs[(at + step + tabs.length) % tabs.length];
      next.click();
      next.focus();
    });
    function choose(name) {
      for (const tab of tabs) {
        tab.setAttribute("aria-selected", String(tab.id === `add-${name}`));
        tab.tabIndex = tab.id === `add-${name}` ? 0 : -1;
      }
      place.setAttribute("aria-labelledby", `add-${name}`);
      place.replaceChildren(FORMS[name](dialog));
      place.querySelector("input").focus();
    }
    queueMicrotask(() => choose(first));
    return [bar, place];
  });
}
