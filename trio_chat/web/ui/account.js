// One's own account: change the password, see and end logins, take one's data out, delete it.

import { context } from "./context.js";
import { field, form, openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { dayAndTime } from "./format.js";
import { explain, isolated, t } from "./i18n.js";

const section = (title, ...children) => h("details", { class: "account-part" }, h("summary", {}, title), ...children);

function password(label, autocomplete) {
  return field(label, { type: "password", autocomplete, maxlength: "1024", required: true });
}

// A button that does something that may fail, and says how it went.
function action(label, act, style = "") {
  const said = h("p", { class: "hint", role: "status" });
  const button = h("button", { type: "button", class: `button ${style}`, onclick: async () => {
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    try {
      await act((text) => (said.textContent = text));
    } catch (error) {
      said.textContent = explain(error);
    } finally {
      button.removeAttribute("aria-busy");
    }
  } }, label);
  return [button, said];
}

export function openAccount() {
  openDialog(t("account.title"), () => [changePassword(), logins(), blocked(), data(), end()]);
}

function changePassword() {
  const present = password(t("account.present"), "current-password");
  const wanted = password(t("account.new"), "new-password");
  const said = h("p", { class: "hint", role: "status" });
  const element = form([present.element, wanted.element], t("account.changeDo"), async () => {
    said.textContent = "";
    await context.client.account.changePassword(present.input.value, wanted.input.value);
    present.input.value = wanted.input.value = "";
    said.textContent = t("account.changed");
  });
  return section(t("account.change"), h("p", { class: "hint" }, t("account.changeHint")), element, said);
}

function logins() {
  const list = h("ul", { class: "logins", "aria-label": t("account.logins") });
  const said = h("p", { class: "hint", role: "status" });
  const load = async () => {
    try {
      const found = await context.client.account.logins();
      list.replaceChildren(...found.map((login) => entry(login, load, said)));
    } catch (error) {
      said.textContent = explain(error);
    }
  };
  const part = section(t("account.logins"), list, said, ...action(t("account.everywhere"), () => context.client.account.logoutEverywhere(), "danger"));
  part.addEventListener("toggle", () => part.open && load());
  return part;
}

function entry(login, load, said) {
  const used = login.used ? dayAndTime(login.used) : "?";
  const where = h("div", {}, h("p", {}, h("bdi", {}, login.client || t("account.unknown"))), h("p", { class: "muted" }, t("account.used", { used, address: login.address || "?" })));
  if (login.current) return h("li", {}, where, h("span", { class: "muted" }, t("account.current")));
  const revoke = h("button", { type: "button", class: "button", onclick: async () => {
    try {
      await context.client.account.revoke(login.login);
      said.textContent = t("account.revoked");
      await load();
    } catch (error) {
      said.textContent = explain(error);
    }
  } }, t("account.revoke"));
  return h("li", {}, where, revoke);
}

function blocked() {
  const { store, client } = context;
  const list = h("ul", { class: "logins", "aria-label": t("block.list"), tabindex: "-1" });
  const said = h("p", { class: "hint", role: "status" });
  const none = h("p", { class: "hint" }, t("block.nobody"));
  let shown = null;
  const draw = () => {
    if (shown === store.blocked.size && [...list.children].every((item) => store.blocked.has(Number(item.dataset.id)))) return; // and the focus stays
    shown = store.blocked.size;
    none.hidden = store.blocked.size > 0;
    list.replaceChildren(...[...store.blocked].map(([id, name]) => h("li", { dataset: { id } }, h("bdi", {}, name || t("person.unknown", { id })),
      h("button", { type: "button", class: "button", "aria-label": t("block.undoOf", { name: name || id }), onclick: async () => {
        try {
          await client.contacts.unblock(id);
          said.textContent = t("block.undone", { name: isolated(name) });
          draw();
          (list.querySelector("button") ?? part.querySelector("summary")).focus();
        } catch (error) {
          said.textContent = explain(error);
        }
      } }, t("block.undo")))));
  };
  draw();
  const part = section(t("block.list"), none, list, said);
  part.addEventListener("toggle", async () => {
    if (!part.open) return;
    await client.contacts.findBlocked();
    draw();
  });
  return part;
}

function data() {
  return section(t("account.data"), h("p", { class: "hint" }, t("account.dataHint")), ...action(t("account.dataDo"), async (say) => {
    const all = await context.client.account.export((count) => say(t("account.dataCount", { count })));
    const url = URL.createObjectURL(new Blob([JSON.stringify(all, null, 1)], { type: "application/json" }));
    h("a", { href: url, download: `trio-chat-${all.id}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    say(t("account.dataCount", { count: all.messages.length }));
  }));
}

function end() {
  const secret = password(t("account.present"), "current-password");
  const element = form([secret.element], t("account.deleteDo"), () => context.client.account.delete(secret.input.value), { style: "danger" });
  return section(t("account.delete"), h("p", { class: "hint" }, t("account.deleteHint")), element);
}
