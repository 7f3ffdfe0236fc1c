// Runs before the first paint, so that nobody sees the other theme flash by.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("edgecache.theme"); } catch { /* storage may be forbidden; then the system decides */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
