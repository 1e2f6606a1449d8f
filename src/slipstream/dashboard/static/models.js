/* Models and upstreams, one row each, as of the newest second. */

import { el } from "./dom.js";
import { told } from "./units.js";

const MODELS = [
  ["Model", ({ model }) => model, ""],
  ["Requests", ({ rps }) => told(rps, "requests/s"), "num"],
  ["p50", ({ p50 }) => told(p50, "ms"), "num"],
  ["p95", ({ p95 }) => told(p95, "ms"), "num"],
  ["First token p95", ({ ttft_p95 }) => told(ttft_p95, "ms"), "num wide"],
  ["Writes", ({ tokens_per_second }) => told(tokens_per_second, "tokens/s"), "num"],
  ["Errors", ({ errors }) => told(errors, "%"), "num"],
  ["Tokens since start", ({ tokens }) => told(tokens, ""), "num wide"],
  ["Cost since start", ({ cost }) => (cost === null ? "unknown" : told(cost, "USD")), "num wide"],
];
const UPSTREAMS = [
  ["Upstream", ({ upstream }) => upstream, ""],
  ["State", ({ healthy }) => el("span", { class: `outcome is-${healthy === null ? "dull" : healthy ? "good" : "bad"}` }, healthy === null ? "not told" : healthy ? "takes requests" : "breaker open"), ""],
  ["Requests", ({ rps }) => told(rps, "requests/s"), "num"],
  ["Own time p95", ({ time_p95 }) => told(time_p95, "ms"), "num"],
  ["Errors", ({ errors }) => told(errors, "%"), "num"],
];

export class Models {
  #bodies;

  constructor() {
    this.empty = el("p", { class: "table-note" }, "No model has been asked yet.");
    const [models, upstreams] = [table("Models, last minute", MODELS), table("Upstreams, last minute", UPSTREAMS)];
    this.#bodies = [models.querySelector("tbody"), upstreams.querySelector("tbody")];
    this.boxes = [models, upstreams].map((each) => el("div", { class: "table-box", hidden: true }, each));
    this.node = el("div", { class: "model-tables" }, ...this.boxes, this.empty);
  }

  /** The rows of a frame. */
  tell({ models, upstreams }) {
    [[models, MODELS], [upstreams, UPSTREAMS]].forEach(([rows, columns], at) => {
      this.boxes[at].hidden = rows.length === 0;
      this.#bodies[at].replaceChildren(...rows.map((row) => el("tr", {}, ...columns.map(([, value, kind], place) =>
        place ? el("td", { class: kind }, value(row)) : el("th", { scope: "row" }, el("span", { class: "cut", title: value(row) }, value(row)))))));
    });
    this.empty.hidden = models.length > 0;
  }
}

function table(caption, columns) {
  return el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...columns.map(([name, , kind]) => el("th", { scope: "col", class: kind }, name)))), el("tbody", {}));
}
