/* Light, dark or as the system says. A classic script in the head, so that no page flashes in the wrong colours. */
"use strict";
(() => {
  const KEY = "slipstream.theme";
  const CHOICES = ["auto", "light", "dark"];

  const stored = () => {
    try {
      const value = localStorage.getItem(KEY);
      return CHOICES.includes(value) ? value : "auto";
    } catch {
      return "auto"; // storage is switched off: the system decides
    }
  };
  const show = (choice) => document.documentElement.setAttribute("data-theme", choice);

  globalThis.slipstreamTheme = {
    current: stored,
    next() {
      const choice = CHOICES[(CHOICES.indexOf(document.documentElement.dataset.theme) + 1) % CHOICES.length];
      try {
        localStorage.setItem(KEY, choice);
      } catch {
        // it then holds for this page only
      }
      show(choice);
      return choice;
    },
  };
  show(stored());
})();
