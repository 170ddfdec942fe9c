// Getting somebody's attention: the title's number, notifications of the desktop, the live region.

import { isGroup } from "../core/kinds.js";
import { read, write } from "../state/storage.js";
import { context } from "./context.js";
import { t } from "./i18n.js";

const GRACE = 700; // so long another tab has to say that somebody reads there

const shown = new Map(); // conv -> notification

export const canNotify = () => "Notification" in globalThis && isSecureContext;
export const notifies = () => canNotify() && Notification.permission === "granted" && read("notify") === true;

// Ask the browser, which asks the person. Resolves to whether it is allowed.
export async function turnNotifications(on) {
  if (on && canNotify() && Notification.permission !== "granted") await Notification.requestPermission();
  write("notify", on && canNotify() && Notification.permission === "granted");
  return notifies();
}

// Say something to a screen reader.
export function announce(text) {
  const region = document.getElementById("live");
  region.textContent = "";
  setTimeout(() => (region.textContent = text), 50);
}

function showTitle() {
  const { store } = context;
  const unread = store.session ? store.unread : 0;
  const name = store.current ? store.title(store.current) : "";
  document.title = `${unread > 0 ? `(${unread > 99 ? "99+" : unread}) ` : ""}${name ? `${name} · ` : ""}trio-chat`;
}

function isWatched(message) {
  return !document.hidden && document.hasFocus() && context.store.current === message.conv;
}

function arrived(message) {
  const { store } = context;
  const name = message.name || t("person.unknown", { id: message.from });
  const group = isGroup(message.conv) ? store.title(message.conv) : "";
  if (!document.hidden) announce(group ? t("live.inGroup", { name, group, text: message.text.slice(0, 300) }) : t("live.direct", { name, text: message.text.slice(0, 300) }));
  if (isWatched(message) || !notifies()) return;
  setTimeout(() => {
    if (store.conversations.get(message.conv)?.readSeq >= message.seq) return;
    if (!document.hidden && document.hasFocus()) return;
    const notification = new Notification(group ? `${name} · ${group}` : name, { body: message.text.slice(0, 200), tag: message.conv, icon: "/static/icon.svg" });
    notification.onclick = () => {
      window.focus();
      location.hash = message.conv;
      notification.close();
    };
    shown.set(message.conv, notification);
  }, GRACE);
}

export function startNotifying() {
  const { store, client } = context;
  store.watch(["lists", "session", "*"], showTitle);
  store.watch(["*", "lists"], () => {
    for (const [conv, notification] of shown) {
      if ((store.conversations.get(conv)?.unread ?? 0) > 0) continue;
      notification.close();
      shown.delete(conv);
    }
  });
  client.addEventListener("message", ({ detail }) => arrived(detail));
}
