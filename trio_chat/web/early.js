// Before anything is drawn: the colours that somebody chose, so that a dark page never flashes white.
try {
  const theme = JSON.parse(localStorage.getItem("trio-chat:theme"));
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's colours.
}
