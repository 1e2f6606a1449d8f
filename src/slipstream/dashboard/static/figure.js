/* One chart: its lines drawn by uPlot, a legend that tells the values under the pointer, the same as a table, a sentence. */

import { DASHES, LINES_MAX, axes, drawMarks, faded, lineColour, markNear, told as toldMark, yRange } from "./chart-look.js";
import { el, iconButton } from "./dom.js";
import { moment, told } from "./units.js";

const ROWS_MAX = 60;
const HEIGHT = 168;
const CLICK_PX = 4;

export class ChartFigure {
  #chart;
  #acts;
  #plot = null; // uPlot
  #times = [];
  #lines = []; // [{label, values}]
  #marks = [];
  #isTable = false;
  #isSeen = false;
  #isStale = true;
  #width = 0;

  /** `acts`: `{zoom(from, to), unzoom(), pick(chart, at), sync}`. */
  constructor(chart, acts) {
    this.#chart = chart;
    this.#acts = acts;
    this.when = el("span", { class: "chart-when" });
    this.toggle = iconButton("table", `${chart.title} as a table`, () => this.showTable(!this.#isTable), { className: "tool tool-small" });
    this.box = el("div", { class: "plot", "aria-hidden": "true" });
    this.empty = el("p", { class: "plot-empty", hidden: true }, "Nothing was seen in this range.");
    this.legend = el("ul", { class: "legend", "aria-label": `Lines of ${chart.title}` });
    this.table = el("div", { class: "chart-table", tabindex: "0", role: "region", "aria-label": `${chart.title} as a table`, hidden: true });
    this.caption = el("figcaption", {});
    this.node = el("figure", { class: "chart", id: `chart-${chart.id}` },
      el("div", { class: "chart-head" }, el("h3", { title: chart.about }, chart.title), this.when, this.toggle),
      this.box, this.empty, this.legend, this.table, this.caption);
    new ResizeObserver(() => this.#fit()).observe(this.box);
    new IntersectionObserver((entries) => {
      this.#isSeen = entries.at(-1).isIntersecting;
      if (this.#isSeen && this.#isStale) this.#draw();
    }, { rootMargin: "200px" }).observe(this.node);
  }

  /** Show these columns. `takeaway` null leaves the sentence as it is. */
  set(times, lines, { takeaway = null, marks = this.#marks } = {}) {
    const anew = lines.length !== this.#lines.length || lines.some(({ label }, at) => label !== this.#lines[at].label);
    this.#times = times;
    this.#lines = lines.slice(0, LINES_MAX);
    this.#marks = marks;
    if (takeaway !== null) this.caption.textContent = takeaway;
    const isEmpty = !this.#lines.some(({ values }) => values.some((value) => value !== null));
    this.node.classList.toggle("is-empty", isEmpty);
    this.empty.hidden = !isEmpty;
    if (anew) this.restyle();
    else if (this.#isSeen) this.#draw();
    else this.#isStale = true;
  }

  /** Draw anew: the theme or the lines have changed. */
  restyle() {
    this.#plot?.destroy();
    this.#plot = null;
    this.legend.replaceChildren(...this.#lines.map(({ label }, at) => legendRow(label, at)));
    if (this.#isSeen) this.#draw();
    else this.#isStale = true;
  }

  /** As a table, or as a drawing. */
  showTable(isTable) {
    this.#isTable = isTable;
    this.node.classList.toggle("is-table", isTable);
    this.table.hidden = !isTable;
    this.toggle.setAttribute("aria-pressed", String(isTable));
    if (isTable) this.#fillTable();
  }

  #draw() {
    this.#isStale = false;
    if (this.#isTable) this.#fillTable();
    const data = [this.#times, ...this.#lines.map(({ values }) => values)];
    if (this.#plot) this.#plot.setData(data);
    else if (this.#lines.length && this.box.clientWidth) this.#plot = new globalThis.uPlot(this.#options(), data, this.box);
    if (this.#plot?.cursor.idx === null || !this.#plot?.cursor.idx) this.#tell(null);
  }

  #options() {
    const single = this.#lines.length === 1;
    return {
      width: this.box.clientWidth,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false, setScale: false }, sync: { key: this.#acts.sync }, bind: { dblclick: () => () => this.#acts.unzoom() } },
      scales: { x: { time: true }, y: { range: yRange(this.#chart.unit) } },
      axes: axes(this.#chart.unit),
      series: [{}, ...this.#lines.map((_, at) => {
        const stroke = lineColour(at);
        return { stroke, width: 1.5, dash: DASHES[at], spanGaps: !this.#chart.unit.includes("/s"), fill: single ? faded(stroke, 0.1) : undefined, points: { size: 4 } };
      })],
      hooks: {
        draw: [(u) => drawMarks(u, this.#marks)],
        setCursor: [(u) => this.#tell(u.cursor.idx ?? null)],
        setSelect: [(u) => this.#select(u)],
        ready: [(u) => this.#listen(u)],
      },
    };
  }

  /** The values at a place of the grid, or the newest ones. */
  #tell(index) {
    const at = index ?? this.#times.length - 1;
    const near = index === null ? null : markNear(this.#marks, this.#times[at], (this.#times.at(-1) - this.#times[0]) / 100);
    this.when.textContent = index === null ? "" : near ? toldMark(near) : moment(this.#times[at]);
    [...this.legend.children].forEach((row, line) => {
      const values = this.#lines[line]?.values ?? [];
      const value = index === null ? newest(values) : values[at];
      row.lastChild.textContent = told(value, this.#chart.unit);
    });
  }

  #select(u) {
    const { left, width } = u.select;
    if (width < CLICK_PX || !u.over.matches(":hover")) return; // the others only follow
    const [from, to] = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.#acts.zoom(from, to);
  }

  #listen(u) {
    let pressed = null;
    u.over.addEventListener("mousedown", (event) => (pressed = event.clientX));
    u.over.addEventListener("mouseup", (event) => {
      const idx = u.cursor.idx;
      if (event.button === 0 && pressed !== null && Math.abs(event.clientX - pressed) < CLICK_PX && idx !== null && idx !== undefined) {
        this.#acts.pick(this.#chart, this.#times[idx], this.#lines.map(({ values }) => values[idx]));
      }
      pressed = null;
    });
  }

  #fit() {
    const width = this.box.clientWidth;
    if (!width || width === this.#width) return;
    this.#width = width;
    if (this.#plot) this.#plot.setSize({ width, height: HEIGHT });
    else if (this.#isSeen) this.#draw();
  }

  #fillTable() {
    const every = Math.max(1, Math.ceil(this.#times.length / ROWS_MAX));
    const rows = [];
    for (let at = this.#times.length - 1; at >= 0; at -= every) {
      rows.push(el("tr", {}, el("th", { scope: "row" }, moment(this.#times[at])), ...this.#lines.map(({ values }) => el("td", {}, told(values[at], this.#chart.unit)))));
    }
    const head = el("tr", {}, el("th", { scope: "col" }, "Time"), ...this.#lines.map(({ label }) => el("th", { scope: "col" }, label)));
    this.table.replaceChildren(el("table", {}, el("caption", { class: "unseen" }, this.#chart.title), el("thead", {}, head), el("tbody", {}, ...rows)));
  }
}

function legendRow(label, at) {
  const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  swatch.setAttribute("viewBox", "0 0 18 4");
  swatch.setAttribute("class", `swatch line-${at + 1}`);
  swatch.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", "M0 2h18");
  line.setAttribute("stroke-dasharray", DASHES[at].join(" "));
  swatch.append(line);
  return el("li", {}, swatch, el("span", { class: "legend-label" }, label), el("b", {}, "–"));
}

function newest(values) {
  for (let at = values.length - 1; at >= 0 && at >= values.length - 30; at -= 1) if (values[at] !== null) return values[at];
  return null;
}
