/* Alerts: what fires, the rules, what happened, silences; and the marks that charts draw. */

import * as api from "./board-api.js";
import { el } from "./dom.js";

export class Alerts {
  #changed;

  constructor({ changed }) {
    this.#changed = changed;
    this.node = el("section", { class: "part", id: "alerts", "aria-labelledby": "alerts-title" }, el("h2", { id: "alerts-title" }, "Alerts"));
  }

  /** The marks of a range: `[{at, kind, text}]`. */
  async load(from, to) {
    return [];
  }

  refresh() {}
}
