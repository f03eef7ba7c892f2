// Light or dark: the setting of the system, unless the user has chosen. Loaded before the first paint.
"use strict";
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem("theme");

  function apply() {
    root.dataset.theme = chosen() ?? (system.matches ? "dark" : "light");
    dispatchEvent(new Event("theme"));
  }

  function toggle() {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    if (next === (system.matches ? "dark" : "light")) localStorage.removeItem("theme");
    else localStorage.setItem("theme", next);
    apply();
  }

  system.addEventListener("change", apply);
  addEventListener("storage", apply);
  apply();
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.hidden = false;
    const update = () => {
      button.textContent = root.dataset.theme === "dark" ? "☀" : "☾";
      button.ariaLabel = root.dataset.theme === "dark" ? "Light colours" : "Dark colours";
      button.title = button.ariaLabel;
    };
    addEventListener("theme", update);
    button.addEventListener("click", toggle);
    update();
  });
})();
