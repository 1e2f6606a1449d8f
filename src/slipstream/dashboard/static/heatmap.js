/* Where values lie over time: a canvas of cells, darker where more fell; the same as a table, a sentence. */

import { colour, faded } from "./chart-look.js";
import { el, iconButton } from "./dom.js";
import { moment, tick, told } from "./units.js";

const LEFT = 54;
const BOTTOM = 26;
const HEIGHT = 220;

function label(at, seconds) {
  const told = moment(at, { date: seconds > 172_800 });
  return seconds < 900 ? told : told.replace(/:\d\d$/, "");
}

export class HeatMap {
  #chart;
  #acts;
  #times = [];
  #step = 1;
  #heat = { edges: [], cells: [] };
  #counts = new Map(); // step * 1000 + row -> count
  #isTable = false;

  /** `acts`: `{pickCell(from, to, low)}`. */
  constructor(chart, acts) {
    this.#chart = chart;
    this.#acts = acts;
    this.when = el("span", { class: "chart-when" });
    this.toggle = iconButton("table", `${chart.title} as a table`, () => this.showTable(!this.#isTable), { className: "tool tool-small" });
    this.canvas = el("canvas", { class: "heat", "aria-hidden": "true" });
    this.box = el("div", { class: "plot plot-heat" }, this.canvas);
    this.empty = el("p", { class: "plot-empty", hidden: true }, "Nothing was seen in this range.");
    this.table = el("div", { class: "chart-table", tabindex: "0", role: "region", "aria-label": `${chart.title} as a table`, hidden: true });
    this.caption = el("figcaption", {});
    this.node = el("figure", { class: "chart chart-wide", id: `chart-${chart.id}` },
      el("div", { class: "chart-head" }, el("h3", { title: chart.about }, chart.title), this.when, this.toggle),
      this.box, this.empty, this.table, this.caption);
    new ResizeObserver(() => this.restyle()).observe(this.box);
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerleave", () => (this.when.textContent = ""));
    this.canvas.addEventListener("click", (event) => this.#click(event));
  }

  /** Show `{edges, cells}` over `times`, steps of `step` seconds. */
  set(times, step, heat, takeaway) {
    this.#times = times;
    this.#step = step;
    this.#heat = heat;
    this.#counts = new Map();
    for (let at = 0; at < heat.cells.length; at += 3) this.#counts.set(heat.cells[at] * 1000 + heat.cells[at + 1], heat.cells[at + 2]);
    this.caption.textContent = `${takeaway} ${this.#chart.about}`;
    this.empty.hidden = heat.cells.length > 0;
    this.node.classList.toggle("is-empty", !heat.cells.length);
    this.restyle();
    if (this.#isTable) this.#fillTable();
  }

  /** Draw anew. */
  restyle() {
    const width = this.box.clientWidth;
    if (!width) return;
    const dpr = devicePixelRatio;
    this.canvas.width = Math.round(width * dpr);
    this.canvas.height = Math.round(HEIGHT * dpr);
    const pen = this.canvas.getContext("2d");
    pen.scale(dpr, dpr);
    pen.clearRect(0, 0, width, HEIGHT);
    if (!this.#heat.cells.length) return;
    this.#drawAxes(pen, width);
    const { cells } = this.#heat;
    let most = 1;
    for (let at = 2; at < cells.length; at += 3) most = Math.max(most, cells[at]);
    const { column, row } = this.#grid(width);
    const shade = colour("--line-1");
    for (let at = 0; at < cells.length; at += 3) {
      pen.fillStyle = faded(shade, 0.14 + 0.86 * Math.sqrt(cells[at + 2] / most));
      pen.fillRect(LEFT + cells[at] * column, HEIGHT - BOTTOM - (cells[at + 1] + 1) * row, Math.max(column - 0.5, 1), Math.max(row - 0.5, 1));
    }
  }

  /** As a table, or as a drawing. */
  showTable(isTable) {
    this.#isTable = isTable;
    this.node.classList.toggle("is-table", isTable);
    this.table.hidden = !isTable;
    this.toggle.setAttribute("aria-pressed", String(isTable));
    if (isTable) this.#fillTable();
  }

  #grid(width) {
    return { column: (width - LEFT - 8) / this.#times.length, row: (HEIGHT - BOTTOM - 8) / (this.#heat.edges.length - 1) };
  }

  #drawAxes(pen, width) {
    const { column, row } = this.#grid(width);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.lineWidth = 1;
    const every = Math.max(1, Math.ceil(24 / row));
    for (let at = 0; at < this.#heat.edges.length; at += every) {
      const y = Math.round(HEIGHT - BOTTOM - at * row) + 0.5;
      pen.strokeStyle = colour("--line");
      pen.beginPath();
      pen.moveTo(LEFT, y);
      pen.lineTo(width - 8, y);
      pen.stroke();
      pen.fillStyle = colour("--ink-faint");
      pen.textAlign = "right";
      pen.fillText(tick(Number(this.#heat.edges[at].toPrecision(2)), "ms"), LEFT - 6, y);
    }
    const labels = Math.max(2, Math.floor((width - LEFT) / 120));
    for (let at = 0; at < labels; at += 1) {
      const place = Math.round((at / labels) * this.#times.length);
      pen.textAlign = at ? "center" : "left";
      pen.fillText(label(this.#times[place], this.#times.at(-1) - this.#times[0]), LEFT + place * column, HEIGHT - BOTTOM / 2 + 2);
    }
  }

  /** The cell under the pointer; null outside. */
  #cell(event) {
    const { left, top, width } = this.canvas.getBoundingClientRect();
    const { column, row } = this.#grid(width);
    const step = Math.floor((event.clientX - left - LEFT) / column);
    const level = Math.floor((HEIGHT - BOTTOM - (event.clientY - top)) / row);
    const inside = step >= 0 && step < this.#times.length && level >= 0 && level < this.#heat.edges.length - 1;
    return inside ? { step, level, count: this.#counts.get(step * 1000 + level) ?? 0 } : null;
  }

  #point(event) {
    const cell = this.#heat.cells.length ? this.#cell(event) : null;
    const [low, high] = cell ? [this.#heat.edges[cell.level], this.#heat.edges[cell.level + 1]] : [];
    this.when.textContent = cell ? `${moment(this.#times[cell.step])} · ${told(low, "ms")} to ${told(high, "ms")}: ${cell.count.toLocaleString("en")}` : "";
  }

  #click(event) {
    const cell = this.#heat.cells.length ? this.#cell(event) : null;
    if (cell?.count) this.#acts.pickCell(this.#times[cell.step], this.#times[cell.step] + this.#step, this.#heat.edges[cell.level]);
  }

  #fillTable() {
    const { edges, cells } = this.#heat;
    const sums = new Array(Math.max(edges.length - 1, 0)).fill(0);
    for (let at = 0; at < cells.length; at += 3) sums[cells[at + 1]] += cells[at + 2];
    const rows = sums.map((sum, at) => el("tr", {}, el("th", { scope: "row" }, `${told(edges[at], "ms")} to ${told(edges[at + 1], "ms")}`), el("td", {}, sum.toLocaleString("en")))).reverse();
    const head = el("tr", {}, el("th", { scope: "col" }, "Response time"), el("th", { scope: "col" }, "Requests"));
    this.table.replaceChildren(el("table", {}, el("caption", { class: "unseen" }, this.#chart.title), el("thead", {}, head), el("tbody", {}, ...rows)));
  }
}
