"use strict";
// The button goes from the system's theme to light to dark; a page opened from a file may not be able to remember it.
(() => {
  const themes = ["auto", "light", "dark"], root = document.documentElement, button = document.getElementById("theme");
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const set = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    button.dataset.now = theme;
    dispatchEvent(new Event("theme"));
  };
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(button.dataset.now) + 1) % themes.length];
    try { localStorage.setItem("theme", next); } catch { /* not remembered */ }
    set(next);
  });
  set(themes.includes(remembered()) ? remembered() : "auto");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));
})();
