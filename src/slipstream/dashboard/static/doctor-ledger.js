/* The ledger: each fix that was done, as predicted and as it came, and how right each class of advice was. */

import { change } from "./doctor-bars.js";
import { el } from "./dom.js";
import { table } from "./tables.js";
import { moment, told } from "./units.js";

const JUDGED_MIN = 3;
const STATES = { kept: "good", "rolled back": "warn", applied: "dull", applying: "dull", interrupted: "warn" };

/** The fixes, newest first. */
export function entriesTable(entries) {
  const hasCost = entries.some((entry) => ["now", "predicted", "actual"].some((when) => entry[`${when}_cost`] !== null));
  const columns = [
    ["When", "", (entry) => moment(entry.wall_ns / 1e9)],
    ["Fix", "", (entry) => [el("b", {}, `${entry.kind.replaceAll("_", " ")} ${entry.subject}`), el("br"), el("code", {}, entry.setting), ` ${entry.before} → ${entry.after}`]],
    ["p95 before", "num", ({ now_p95: value }) => time(value)],
    ["Expected", "num", (entry) => both(time(entry.predicted_p95), spread(entry.predicted_gain, entry.gain_low, entry.gain_high))],
    ["Actual", "num", (entry) => both(time(entry.actual_p95), spread(entry.actual_gain, entry.actual_low, entry.actual_high))],
    ["Answers/s", "num", ({ predicted_throughput: expected, actual_throughput: actual }) => both(told(actual, ""), `expected ${told(expected, "")}`)],
    ...(hasCost ? [["$/request", "num", ({ now_cost: now, predicted_cost: expected, actual_cost: actual }) => both(told(actual, "USD"), `expected ${told(expected, "USD")}, before ${told(now, "USD")}`)]] : []),
    ["Outcome", "", ({ state }) => el("span", { class: `outcome is-${STATES[state]}` }, state)],
  ];
  return table("Fixes that were done, newest first", columns, entries, more);
}

const SIDES = { now: "before", predicted: "expected", without: "verified without", actual: "verified with" };
const FIGURES = { p50: ["p50", time], p95: ["p95", time], throughput: ["Answers/s", (value) => told(value, "")], cost: ["$/request", (value) => told(value, "USD")] };

/** What stands below a fix, over the whole width: what became of one that was interrupted, and all its figures. */
function more(entry) {
  return [...(entry.note ? [el("p", { class: "quiet" }, entry.note)] : []), ...figures(entry)];
}

/** What was predicted and what was met, each without the fix and with it. */
function figures(entry) {
  const known = Object.entries(FIGURES).filter(([name]) => Object.keys(SIDES).some((side) => entry[`${side}_${name}`] !== null));
  if (!known.length) return [];
  const head = el("tr", {}, el("td", {}), ...Object.values(SIDES).map((name) => el("th", { scope: "col", class: "num" }, name)));
  const rows = known.map(([name, [title, shown]]) => el("tr", {}, el("th", { scope: "row" }, title), ...Object.keys(SIDES).map((side) => el("td", { class: "num" }, shown(entry[`${side}_${name}`])))));
  return [el("details", { class: "figures" }, el("summary", {}, "All figures"), el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)))];
}

/** Classes of advice with their record, and all together. */
export function scoresTable({ scores, overall }) {
  if (!scores.length) return el("p", { class: "table-note" }, "None of them was verified yet: there are no scores.");
  const share = (value) => `${Math.round(value * 100)} %`;
  const columns = [
    ["Class of advice", "", ({ kind }) => (kind === "all" ? el("b", {}, "all together") : kind.replaceAll("_", " "))],
    ["Verified", "num", ({ count }) => String(count)],
    ["Right", "num", ({ hits }) => share(hits)],
    ["Median error of the p95", "num", ({ error }) => share(error)],
    ["Within the interval", "num", ({ coverage }) => share(coverage)],
    ["Record", "", ({ count, is_bad: isBad }) => (count < JUDGED_MIN ? el("span", { class: "quiet" }, "too few to judge") : isBad ? el("b", { class: "is-bad-record" }, "BAD RECORD") : "good")],
  ];
  return table("How right the advice was", columns, [...scores, ...(overall && scores.length > 1 ? [overall] : [])]);
}

function both(first, second) {
  return second ? [el("b", {}, first), el("br"), el("span", { class: "quiet" }, second)] : [first];
}

function time(seconds) {
  return told(seconds === null ? null : seconds * 1000, "ms");
}

/** A gain as what became of the p95. */
function spread(gain, low, high) {
  if (gain === null) return "";
  return low === null ? change(-gain) : `${change(-gain)} (${change(-high)} to ${change(-low)})`;
}
