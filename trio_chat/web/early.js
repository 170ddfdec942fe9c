// Before anything is drawn: the colours that somebody chose, so that a dark page never flashes white.
try {
  const theme = JSON.parse(localStorage.getItem("trio-chat:theme"));
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's colours.
}

// On a bad line a part may fail to come, and without it there is no page: then all of it is asked for again. (No texts are
// there yet either.)
addEventListener(
  "error",
  (event) => {
    if (!(event.target instanceof HTMLScriptElement) || document.querySelector("tc-app")) return;
    document.body?.append("trio-chat could not be loaded. Trying again … 加载失败，正在重试……");
    setTimeout(() => location.reload(), 2000 + 3000 * Math.random());
  },
  true,
);
