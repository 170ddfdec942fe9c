// Before anything is drawn: the colours that somebody chose, so that a dark page never flashes white.
try {
  const theme = JSON.parse(localStorage.getItem("trio-chat:theme"));
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's colours.
}

// On a bad line a part may fail to come, and without it there is no page: then all of it is asked for again, a few times in a
// row at most. (No texts are there yet either.)
let asked = false;
function again() {
  if (asked || document.querySelector("tc-app")) return;
  asked = true;
  let tries = 5;
  try {
    tries = Number(sessionStorage.getItem("trio-chat:tries")) + 1;
    sessionStorage.setItem("trio-chat:tries", String(tries));
  } catch {
    // No storage: once more by hand.
  }
  const words = tries < 5 ? "Trying again … 加载失败，正在重试……" : "Please reload. 加载失败，请刷新页面。";
  document.body?.replaceChildren(`trio-chat could not be loaded. ${words}`);
  if (tries < 5) setTimeout(() => location.reload(), 1000 * tries + 2000 * Math.random());
}
let missing = false;
addEventListener(
  "error",
  ({ target }) => {
    if (target instanceof HTMLScriptElement) again();
    // The browser may ask for it a second time, or not: that shows when all has been loaded.
    if (target instanceof HTMLLinkElement) missing = true;
  },
  true,
);
// Not every failure says so: a browser that changes from one network to another just stops.
addEventListener("load", () => {
  const look = () => (document.querySelector("tc-app") ? sessionStorage.removeItem("trio-chat:tries") : again());
  setTimeout(look, missing ? 1000 : 8000);
});
