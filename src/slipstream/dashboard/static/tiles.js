/* The overview's numbers: value, unit, what it is, and a line of how it went. */

import { el } from "./dom.js";
import { split } from "./units.js";

const SPARK_POINTS = 90;
const KEPT = 900;
const LEADING = 4; // the guide's metrics: drawn large

export class Tiles {
  #tiles = new Map(); // metric -> {tile, value, unit, note, line, kept}
  #root;

  constructor(root) {
    this.#root = root;
  }

  /** Build a tile for each of these. */
  lay(tiles) {
    this.#tiles.clear();
    this.#root.replaceChildren(...tiles.map((tile, at) => this.#build(tile, at)));
  }

  /** The newest values, and where known the columns behind them: `columns(metric)` gives an array or null. */
  tell(now, columns) {
    for (const { metric, value, note } of now) {
      const parts = this.#tiles.get(metric);
      if (!parts) continue;
      const [digits, unit] = split(value, parts.tile.unit);
      parts.value.textContent = digits;
      parts.unit.textContent = unit;
      parts.note.textContent = value === null ? "nothing seen yet" : note;
      parts.node.classList.toggle("unknown", value === null);
      parts.kept.push(value);
      if (parts.kept.length > KEPT) parts.kept.shift();
      const { line, area } = paths(columns(metric) ?? parts.kept);
      parts.line.setAttribute("d", line);
      parts.area.setAttribute("d", area);
    }
  }

  #build(tile, at) {
    const value = el("span", { class: "tile-value" }, "–");
    const unit = el("span", { class: "tile-unit" });
    const note = el("p", { class: "tile-note" });
    const [picture, line, area] = spark();
    const target = at < LEADING ? `#chart-${["response_time", "cpu", "memory", "token_throughput"][at]}` : null;
    const title = target ? el("a", { href: target }, tile.title) : tile.title;
    const by = tile.owner ? { title: `Added by ${tile.owner}` } : {};
    const node = el("div", { class: at < LEADING ? "tile tile-lead" : "tile", ...by, role: "group", "aria-label": tile.title },
      el("h3", {}, title), el("p", { class: "tile-number" }, value, " ", unit), note, picture);
    this.#tiles.set(tile.metric, { tile, node, value, unit, note, line, area, kept: [] });
    return node;
  }
}

function spark() {
  const make = (name, set) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(set)) node.setAttribute(key, value);
    return node;
  };
  const picture = make("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" });
  const area = make("path", { class: "spark-area" });
  const line = make("path", { class: "spark-line" });
  picture.append(area, line);
  return [picture, line, area];
}

/** A line over 100 by 24 of at most SPARK_POINTS points, each the highest of its stretch; gaps are bridged. */
function paths(values) {
  const every = Math.max(1, Math.ceil(values.length / SPARK_POINTS));
  const points = [];
  let top = 0;
  for (let at = 0; at < values.length; at += every) {
    let high = null;
    for (const value of values.slice(at, at + every)) if (value !== null && (high === null || value > high)) high = value;
    if (high === null) continue;
    points.push([(at / Math.max(values.length - 1, 1)) * 100, high]);
    top = Math.max(top, high);
  }
  if (points.length < 2) return { line: "", area: "" };
  const drawn = points.map(([x, value]) => `${x.toFixed(1)} ${(23 - (top ? value / top : 0) * 21).toFixed(1)}`);
  const line = `M${drawn.join("L")}`;
  return { line, area: `${line}L${points.at(-1)[0].toFixed(1)} 24L${points[0][0].toFixed(1)} 24Z` };
}
