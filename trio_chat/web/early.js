// Before anything is drawn: the colours that somebody chose, so that a dark page never flashes white.
try {
  const theme = JSON.parse(localStorage.getItem("trio-chat:theme"));
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's colours.
}

// On a bad line a part may fail to come, and without it there is no page: then all of it is asked for again, a few times in a
// row at most. (No texts are there yet either.)
function again() {
  if (document.querySelector("tc-app")) return;
  let tries = 5;
  try {
    tries = Number(sessionStorage.getItem("trio-chat:tries")) + 1;
    sessionStorage.setItem("trio-chat:tries", String(tries));
  } catch {
    // No storage: once more by hand.
  }
  const words = tries < 5 ? "Trying again … 加载失败，正在重试……" : "Please reload. 加载失败，请刷新页面。";
  document.body?.replaceChildren(`trio-chat could not be loaded. ${words}`);
  if (tries < 5) setTimeout(() => location.reload(), 2000 + 3000 * Math.random());
}
addEventListener("error", (event) => event.target instanceof HTMLScriptElement && again(), true);
// Not every failure says so.
addEventListener("load", () =>
  setTimeout(() => (document.querySelector("tc-app") ? sessionStorage.removeItem("trio-chat:tries") : again()), 8000),
);
