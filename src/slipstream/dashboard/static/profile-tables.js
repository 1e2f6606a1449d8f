/* Tables of the page of profiles: steps with their part in slow requests, use of resources; and the list of stalls. */

import { el } from "./dom.js";
import { requestLink } from "./profile-request.js";
import { shareBar } from "./tables.js";
import { moment, told } from "./units.js";

const STEPS = [
  ["Step", ({ step }) => step, ""],
  ["Count", ({ count }) => count.toLocaleString("en"), "num"],
  ["Mean", ({ mean_ms: ms }) => told(ms, "ms"), "num"],
  ["p50", ({ p50_ms: ms }) => (ms ? told(ms, "ms") : "–"), "num"],
  ["p95", ({ p95_ms: ms }) => (ms ? told(ms, "ms") : "–"), "num"],
  ["Slowest", ({ max_ms: ms }) => (ms ? told(ms, "ms") : "–"), "num"],
  ["Of all time", ({ share }) => shareBar(share), "num"],
  ["Of what makes slow ones slow", ({ tail_variance: share, hasTail }) => (hasTail ? shareBar(share) : "–"), "num"],
  ["p95 over median", ({ tail_gap: share, hasTail }) => (hasTail ? shareBar(share) : "–"), "num"],
];
const USE = [
  ["Resource", ({ part }) => part, ""],
  ["Used", ({ utilisation: used }) => (used === null ? "–" : shareBar(used)), "num"],
  ["Waiting", ({ saturation, saturation_unit: unit }) => (saturation === null ? "–" : `${Number(saturation.toPrecision(3))} ${unit}`), "num"],
  ["Errors", ({ errors }) => (errors === null ? "–" : errors.toLocaleString("en")), "num"],
  ["May take", ({ limit }) => limit || "–", ""],
];

/** What to say of the steps, and their table; null where nothing is recorded. */
export function stepsTable(report) {
  if (!report?.requests) return { said: "No request is recorded in this time.", table: null };
  const { requests, cut, p50_ms: p50, p95_ms: p95, bottleneck, reason } = report;
  const verdict = bottleneck ? `${bottleneck} stands out: ${reason}.` : `No step stands out: ${reason}.`;
  const counted = requests === 1 ? "1 request" : `${requests.toLocaleString("en")} requests`;
  const said = `${counted}${cut ? ", the newest only" : ""}: p50 ${told(p50, "ms")}, p95 ${told(p95, "ms")}. ${verdict}`;
  const hasTail = report.rows.some((row) => row.tail_variance || row.tail_gap); // too few calls have none
  const rows = report.rows.map((row) => ({ ...row, hasTail }));
  return { said, table: table("Steps; the last three columns add up to 100 % each", STEPS, rows, ({ step }) => step === bottleneck) };
}

/** Every resource and part; those that are strained are marked. */
export function useTable(rows) {
  return table("Resources and parts", USE, rows, isStrained);
}

/** The stalls, newest first. */
export function stallItems(found) {
  if (!found) return [el("li", { class: "none" }, "This server tells of no stalls.")];
  if (!found.watched) return [el("li", { class: "none" }, "Event loops are not watched: profiling.stalls is off.")];
  if (!found.stalls.length) return [el("li", { class: "none" }, "No event loop was held up since the server began.")];
  return found.stalls.map(({ at, process, kind, said, request }) => el("li", {},
    el("time", {}, moment(at)), el("span", { class: "event-kind" }, `${process}${kind === "gc" ? ", gc" : ""}`), said,
    request ? el("a", { class: "by", href: requestLink(request), "aria-label": `Where the time of request ${request} went` }, " its waterfall") : ""));
}

function table(caption, columns, rows, isMarked) {
  const body = rows.map((row) => el("tr", { class: isMarked(row) ? "is-marked" : null }, ...columns.map(([, value, kind], at) =>
    (at ? el("td", { class: kind }, value(row)) : el("th", { scope: "row" }, value(row), isMarked(row) ? el("span", { class: "unseen" }, " (stands out)") : "")))));
  return el("table", {}, el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, ...columns.map(([name, , kind]) => el("th", { scope: "col", class: kind }, name)))), el("tbody", {}, ...body));
}

/** As the profiler says it: nearly full, or waited for. */
function isStrained({ utilisation, saturation, saturation_unit: unit }) {
  const least = unit.startsWith("%") ? 10 : unit.startsWith("ms") ? 100 : 1;
  return (utilisation ?? 0) >= 0.8 || (saturation ?? 0) >= least;
}
