// The page's beginning.

import { Client } from "./state/client.js";
import { watch } from "./state/storage.js";
import { Store } from "./state/store.js";
import "./ui/app.js";
import { context } from "./ui/context.js";
import { chooseLanguage } from "./ui/i18n.js";
import { startNotifying } from "./ui/notify.js";
import { applyTheme } from "./ui/theme.js";

chooseLanguage();
const address = new URL("/ws", location.href);
address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
context.store = new Store();
context.client = new Client(context.store, address.href);
watch((name) => {
  if (name === "theme") applyTheme();
  if (name === "language") {
    chooseLanguage();
    document.querySelector("tc-app")?.rebuild();
  }
});
context.client.start();
startNotifying();
document.getElementById("waiting")?.remove();
document.body.prepend(document.createElement("tc-app"));
