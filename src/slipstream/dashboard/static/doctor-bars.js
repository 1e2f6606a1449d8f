/* Small bars: what is and what would be on one axis with its interval; a change of the p95 around zero. */

import { el } from "./dom.js";
import { split, told } from "./units.js";

const AXIS_LEAST = 0.2; // a change of a fifth reaches to the end of its axis at least

/** A change as a share with its sign: "−64 %". */
export function change(share) {
  const percent = Math.round(share * 100);
  return `${percent > 0 ? "+" : percent < 0 ? "−" : ""}${Math.abs(percent)} %`;
}

/** Two bars from zero; the interval, where one is known, lies over the end of the second. */
export function pair(name, { now, then, low = null, high = null, unit }) {
  const most = Math.max(now, then, high ?? 0) * 1.02 || 1;
  const bars = [bar("bar-now", 0, now, most), bar("bar-then", 0, then, most)];
  if (low !== null) bars.push(bar("bar-interval", low, high, most));
  return el("div", { class: "pair" }, el("span", { class: "pair-name" }, name),
    el("span", { class: "pair-track", "aria-hidden": "true" }, ...bars),
    el("span", { class: "pair-told" }, el("b", {}, beside(now, "→", then, unit)), low === null ? "" : el("span", { class: "quiet" }, ` (${beside(low, "to", high, unit)})`)));
}

/** What becomes of the p95: left of the middle it is less. `gain` and its interval are shares saved. */
export function changeBar(name, { gain, low, high }) {
  const half = Math.max(AXIS_LEAST, Math.abs(low), Math.abs(high)) * 1.05;
  const kind = low > 0 ? "is-less" : high < 0 ? "is-more" : "is-unsure";
  const band = bar(`bar-change ${kind}`, half - high, half - low, 2 * half);
  const middle = bar("bar-point", half - gain, half - gain, 2 * half);
  return el("div", { class: "pair" }, el("span", { class: "pair-name" }, name),
    el("span", { class: "pair-track has-zero", "aria-hidden": "true" }, band, middle),
    el("span", { class: "pair-told" }, el("b", {}, change(-gain)), el("span", { class: "quiet" }, ` (${change(-high)} to ${change(-low)})`)));
}

/** Two values with their unit, said once where they share it. */
function beside(one, between, other, unit) {
  const [number, own] = split(one, unit);
  return `${own === split(other, unit)[1] ? number : told(one, unit)} ${between} ${told(other, unit)}`;
}

function bar(kind, from, to, most) {
  const node = el("i", { class: kind });
  node.style.left = `${(Math.max(0, from) / most) * 100}%`;
  node.style.width = `${(Math.max(0, Math.min(to, most) - Math.max(0, from)) / most) * 100}%`;
  return node;
}
