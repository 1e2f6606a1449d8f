/* Strips of time: how late event loops ran and how long collections took, a bar a moment, a strip a process. */

import { el } from "./dom.js";
import { moment, told } from "./units.js";

const SVG = "http://www.w3.org/2000/svg";
const TITLES = { loop_lag: "Loop lag p95", gc: "GC pauses p99" };
const HEIGHT = 24;
const FULL_MS = 100; // what fills a strip; an event loop is ill from there on

/** One strip for each line of each picture. */
export function strips({ times, pictures }) {
  const found = pictures.flatMap(({ id, lines }) => lines.map(({ label, values }) => strip(`${TITLES[id] ?? id}, ${label}`, times, values)));
  return found.length ? found : [el("p", { class: "table-note" }, "Nothing was measured in this time.")];
}

function strip(title, times, values) {
  const known = values.filter((value) => value !== null);
  const worst = known.length ? Math.max(...known) : null;
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", `0 0 ${Math.max(times.length, 1)} ${HEIGHT}`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("class", "strip-bars");
  picture.setAttribute("role", "img");
  const at = worst === null ? null : times[values.indexOf(worst)];
  picture.setAttribute("aria-label", worst === null ? `${title}: nothing measured` : `${title}: at most ${told(worst, "ms")}, at ${moment(at)}`);
  values.forEach((value, place) => {
    if (value === null) return;
    const height = Math.max(1, Math.min(1, Math.sqrt(value / FULL_MS)) * HEIGHT); // a root: 1 ms is seen beside 100
    const bar = document.createElementNS(SVG, "rect");
    bar.setAttribute("x", String(place));
    bar.setAttribute("width", "1");
    bar.setAttribute("y", String(HEIGHT - height));
    bar.setAttribute("height", String(height));
    bar.setAttribute("class", value >= FULL_MS ? "is-ill" : "");
    picture.append(bar);
  });
  return el("div", { class: "strip-row" }, el("span", { class: "strip-name" }, title), picture,
    el("span", { class: "strip-worst" }, worst === null ? "–" : `max ${told(worst, "ms")}`));
}
