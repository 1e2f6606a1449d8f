/* What the doctor found, and what verifying a fix has come to, as elements. It asks the server for nothing but records. */

import * as api from "./board-api.js";
import { change, changeBar, pair } from "./doctor-bars.js";
import { el, icon } from "./dom.js";
import { shareBar, table } from "./tables.js";
import { moment } from "./units.js";
import { waterfallOf } from "./waterfall-of.js";

const IDS_SHOWN = 3;
const MS = 1000;

/** Before anything was looked at. */
export function nothingYet() {
  return el("section", { class: "verdict is-open" }, el("h2", {}, "What is slow, and what would help?"),
    el("p", {}, "Choose a window and press “Look”. Recorded requests are judged, and replayed with what would help; nothing is changed, and no upstream is asked."));
}

/** A diagnosis. `confirm(cause, since)` is called where somebody wants a fix done. */
export function report({ result: found, since, at }, confirm) {
  return [
    verdict(found, at),
    ...(found.symptoms.length ? [part("Symptoms", el("ul", { class: "symptoms" }, ...found.symptoms.map(symptom)))] : []),
    ...(found.split && isIll(found) ? [part("Where the slow requests' time goes", ...splitRows(found.split))] : []),
    ...(found.causes.length ? [part("Causes", ...found.causes.map((cause) => causeCard(cause, () => confirm(cause, since))))] : []),
    ...(found.ruled_out.length ? [part("Ruled out", el("dl", { class: "ruled-out" }, ...found.ruled_out.map(({ check, why }) => el("div", {}, el("dt", {}, spaced(check)), el("dd", {}, why)))))] : []),
  ];
}

/** What has come of a fix that was done. */
export function verified({ result: done, verify_seconds: asked, verify_by: by }) {
  if (!done) {
    return el("section", { class: "verdict is-open" }, el("h2", {}, "Applied, and not verified."),
      el("p", {}, asked ? "Nothing was measured." : "Look again in a while to see what it has come to."));
  }
  if (!done.is_told) return el("section", { class: "verdict is-open" }, el("h2", {}, done.verdict));
  const { without, with_fix: fixed, gain, gain_interval: { low, high } } = done;
  const rows = [
    pair("p95", { now: without.p95 * MS, then: fixed.p95 * MS, unit: "ms" }),
    pair("p50", { now: without.p50 * MS, then: fixed.p50 * MS, unit: "ms" }),
    pair("Throughput", { now: without.throughput, then: fixed.throughput, unit: "answers/s" }),
    ...(without.failed_share || fixed.failed_share ? [pair("Failed", { now: without.failed_share, then: fixed.failed_share, unit: "1" })] : []),
    ...(without.cost !== null && fixed.cost !== null ? [pair("Cost", { now: without.cost, then: fixed.cost, unit: "USD/request" })] : []),
  ];
  return el("section", { class: `verdict ${done.is_kept ? "is-well" : "is-warned"}` }, el("h2", {}, done.verdict),
    el("p", {}, `${done.requests.toLocaleString("en")} ${by === "live" ? "requests of the live traffic" : "made-up requests"} in ${done.rounds} rounds, without and with the fix in turn.`),
    el("div", { class: "pairs" }, legend("without", "with the fix"), ...rows, changeBar("p95 change", { gain, low, high })));
}

/** A run that somebody has ended. */
export function cancelled({ error, hint }) {
  return el("section", { class: "verdict is-open" }, el("h2", {}, error), el("p", {}, hint));
}

/** What would be changed, in words. */
export function fixInWords({ setting, before, after, text }) {
  return ["This sets ", el("code", {}, `${setting} = ${after}`), ` (now ${before}) in the settings file of this server, which takes it while it serves: ${text}. The file before stays beside it.`];
}

function verdict(found, at) {
  const isKnown = found.causes.length + found.symptoms.length + found.ruled_out.length > 0;
  const kind = found.causes.length ? "is-ill" : found.symptoms.length ? "is-warned" : isKnown ? "is-well" : "is-open";
  const span = found.requests ? `${count(found.requests)}, judged from ${clock(found.since_wall_ns)} to ${clock(found.until_wall_ns)}` : "No request is recorded in this window";
  const more = kind === "is-well" ? [el("p", {}, "A clean bill: nothing to change. Look again when somebody complains.")]
    : kind === "is-open" ? [el("p", {}, "Look at a longer window, or come back when more was asked: on the ", el("a", { href: "/" }, "chat page"), ", or by a client of this server’s /v1.")] : [];
  return el("section", { class: `verdict ${kind}` }, el("h2", {}, kind === "is-well" ? icon("check") : "", found.verdict), ...more,
    el("p", { class: "quiet" }, `${span}; looked at ${moment(at)}.`));
}

/** Whether something is wrong with requests: where they are well, what makes the slowest of them slow is no news. */
function isIll({ causes, symptoms }) {
  return causes.length > 0 || symptoms.some(({ group }) => group !== "high resource usage");
}

function when({ since_wall_ns: since, until_wall_ns: until, is_now: isNow }) {
  if (isNow) return "";
  if (!since) return "all the time";
  return until ? `from ${clock(since)} to ${clock(until)}` : `since ${clock(since)}`;
}

function symptom({ group, text, hits, ...time }) {
  const facts = [when(time), hits.length ? `hits ${hits.join(", ")}` : ""].filter(Boolean).join("; ");
  return el("li", {}, el("b", {}, group), el("span", {}, text), el("span", { class: "quiet" }, facts));
}

function causeCard({ number, finding, advice, record }, act) {
  const bar = el("i", {});
  bar.style.width = `${Math.min(100, finding.share * 100)}%`;
  return el("article", { class: "cause" },
    el("h3", {}, el("span", { class: "cause-number", "aria-hidden": "true" }, String(number)), finding.cause),
    el("p", { class: "cause-share" }, el("span", { class: "share-track", "aria-hidden": "true" }, bar), `${Math.round(finding.share * 100)} % of the slow requests’ time`),
    el("ul", { class: "points" }, ...finding.evidence.map((each) => point("for", each)), ...finding.against.map((each) => point("against", each))),
    ...(advice ? [fixOf(advice, act)] : []),
    ...(record ? [el("p", { class: `quiet${record.startsWith("BAD RECORD") ? " is-bad-record" : ""}` }, `Advice of this class so far: ${record}.`)] : []));
}

function point(kind, { text, requests }) {
  const body = el("div", { class: "point-body" }, text);
  const shown = el("div", { class: "evidence", hidden: true });
  const buttons = requests.slice(0, IDS_SHOWN).map((id) => {
    const button = el("button", { type: "button", class: "id-link", "aria-expanded": "false", "aria-label": `Where the time of request ${id} went`, title: id, onclick: () => toggle(id, button, buttons, shown) },
      `${id.slice(0, 4)}…${id.slice(-6)}`);
    return button;
  });
  if (buttons.length) body.append(el("span", { class: "ids" }, ...buttons));
  return el("li", { class: `is-${kind}` }, el("b", { class: "sign", "aria-label": kind }, kind === "for" ? "+" : "−"), body, shown);
}

async function toggle(id, button, all, box) {
  const isOpening = button.getAttribute("aria-expanded") === "false";
  for (const each of all) each.setAttribute("aria-expanded", String(isOpening && each === button));
  box.hidden = !isOpening;
  if (!isOpening) return;
  box.replaceChildren(el("p", { class: "quiet" }, "Fetching its record …"));
  const drawn = await waterfallOf(id);
  if (button.getAttribute("aria-expanded") === "true") box.replaceChildren(drawn); // else another was chosen meanwhile
}

function fixOf({ fix, prediction, doubt }, act) {
  const head = fix.setting
    ? [el("code", {}, `${fix.setting} = ${fix.after}`), el("span", { class: "quiet" }, ` now ${fix.before}`), el("p", {}, `${capital(fix.text)}.`)]
    : [el("p", {}, `${capital(fix.text)}.`)];
  return el("div", { class: "fix" }, el("h4", {}, "Fix"), ...head,
    ...(prediction ? [expected(prediction)] : [el("p", { class: "doubt" }, `No gain can be promised: ${doubt}.`)]),
    actOn(fix, act));
}

function actOn(fix, act) {
  if (!fix.setting) return "";
  if (!fix.is_live) return el("p", { class: "quiet" }, "A running server does not take it: write it into slipstream.toml and start the server again.");
  return el("button", { type: "button", class: "plain-button main-button apply", disabled: document.body.classList.contains("is-working"), onclick: act }, "Apply and verify …");
}

function expected({ now, then, p50, p95, throughput, gain, gain_interval: { low, high }, replay_error: off, requests }) {
  const rows = [
    pair("p95", { now: now.p95 * MS, then: then.p95 * MS, low: p95.low * MS, high: p95.high * MS, unit: "ms" }),
    pair("p50", { now: now.p50 * MS, then: then.p50 * MS, low: p50.low * MS, high: p50.high * MS, unit: "ms" }),
    pair("Throughput", { now: now.throughput, then: then.throughput, low: throughput.low, high: throughput.high, unit: "answers/s" }),
    ...(now.failed_share || then.failed_share ? [pair("Failed", { now: now.failed_share, then: then.failed_share, unit: "1" })] : []),
    ...(now.cost !== null && then.cost !== null ? [pair("Cost", { now: now.cost, then: then.cost, unit: "USD/request" })] : []),
  ];
  return el("div", {}, el("div", { class: "pairs" }, legend("now", "expected"), ...rows, changeBar("p95 change", { gain, low, high })),
    el("p", { class: "quiet" }, `By replaying ${count(requests)}; without the fix the replay is ${change(off)} off what was recorded. Intervals hold 90 %.`));
}

function legend(one, other) {
  return el("p", { class: "pair-legend" }, el("i", { class: "bar-now", "aria-hidden": "true" }), one, el("i", { class: "bar-then", "aria-hidden": "true" }), other);
}

const PART_NAMES = { queue: "waiting for a slot or a connection", waiting: "waiting for an upstream, or before asking again", failed: "attempts that failed", first: "the upstream, up to the first byte", rest: "the rest of the answer", gateway: "the gateway itself" };

/** The first split: a sentence, and a row with its bars for each part that is there. */
function splitRows({ text, parts }) {
  const shown = parts.filter(({ share, gap }) => share >= 0.005 || Math.abs(gap) >= 0.05);
  const columns = [
    ["Part", "", ({ part: name }) => PART_NAMES[name] ?? name],
    ["Of their time", "num", ({ share }) => shareBar(share)],
    ["Of what makes them slow", "num", ({ gap }) => shareBar(gap)],
  ];
  return [el("p", { class: "table-note" }, `${text[0].toUpperCase()}${text.slice(1)}.`), table("Parts of the slow requests' time", columns, shown)];
}

function part(title, ...children) {
  return el("section", { class: "part" }, el("h2", {}, title), ...children);
}

const count = (requests) => `${requests.toLocaleString("en")} ${requests === 1 ? "request" : "requests"}`;
const spaced = (name) => name.replaceAll("_", " ");
const clock = (ns) => moment(ns / 1e9);
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
