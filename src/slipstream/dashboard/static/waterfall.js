/* A request's steps as bars on one time axis, with the first token marked, and the same as a table for screen readers. */

import { copyButton, el } from "./dom.js";
import { count, duration } from "./format.js";

/**
 * Steps of the request's way: shown name, whose time it is, what happens in it, and the step that it is a part of.
 * Others show as they are named.
 */
const STEPS = new Map(Object.entries({
  admit: ["Admit", "own", "The key is checked."],
  read: ["Read", "own", "The request is read."],
  wait: ["Wait", "wait", "No model is free to take the request: it waits for one."],
  back_off: ["Back off", "wait", "A pause before the same model is asked again."],
  load: ["Load", "wait", "The embedded model is starting.", "open"],
  queue: ["Queue", "wait", "The request waits for a free place.", "open"],
  prompt: ["Prompt", "wait", "The model works through the prompt, as it measured itself.", "first_byte"],
  decode: ["Decode", "stream", "The model writes its tokens, as it measured itself.", "relay"],
  embed: ["Embed", "wait", "The texts become vectors.", "open"],
  cache: ["Cache", "own", "Known answers are looked through."],
  select: ["Select", "own", "The model is chosen."],
  open: ["Open", "wait", "The request is handed to the model."],
  first_byte: ["First byte", "wait", "Until the first byte of the model’s answer."],
  relay: ["Stream", "stream", "The answer is passed on as it is written."],
}));
const TICKS_MAX = 4;

/** The waterfall and the facts beside it. */
export function waterfall(found) {
  const timing = { ...found, steps: ordered(found.steps) };
  const parts = [];
  if (timing.steps.length) parts.push(chart(timing), spokenTable(timing));
  else parts.push(el("p", { class: "wf-none" }, timing.awaited ? "The server’s record is on its way." : "Measured in this browser: the server kept no record of this request."));
  parts.push(facts(timing));
  return el("div", { class: "wf-panel" }, ...parts);
}

/** The waterfall in one hair-thin line: the record's steps, without their parts. Empty while the record is awaited. */
export function strip(timing) {
  if (!timing.steps.length && !timing.awaited) return "";
  const total = totalOf(timing);
  const bars = ordered(timing.steps).filter(({ inside }) => !inside).map((step) => placed(el("i", { class: `bar-${known(step)[1]}` }), step, total));
  return el("span", { class: "strip", "aria-hidden": "true" }, ...bars);
}

/** By start, each part below the step that it belongs to; a part whose step is absent stands for itself. */
function ordered(steps) {
  const byStart = [...steps].sort((a, b) => a.start_ns - b.start_ns);
  const end = ({ start_ns: start, duration_ns: took }) => start + took;
  const parentOf = (step) => {
    const shared = (other) => Math.min(end(step), end(other)) - Math.max(step.start_ns, other.start_ns);
    const [, , , whole] = known(step);
    return byStart.filter(({ name }) => name === whole).sort((a, b) => shared(b) - shared(a))[0]; // of several attempts, its own
  };
  return byStart.filter((step) => !parentOf(step)).flatMap((step) => [
    step,
    ...byStart.filter((part) => parentOf(part) === step).map((part) => ({ ...part, inside: true })),
  ]);
}

function chart(timing) {
  const total = totalOf(timing);
  const tip = el("p", { class: "wf-tip", "aria-live": "polite" });
  const rows = timing.steps.map((step, index) => row(step, total, index + 2));
  const grid = el("div", { class: "wf-grid", "aria-hidden": "true" }, axis(timing, total), ...rows.flat());
  const root = el("div", {
    class: "wf", tabindex: "0", role: "group", "aria-label": `Steps of the request on a time axis of ${duration(total)}. Arrow keys go through them.`,
  }, grid, tip);
  choosing(root, { rows, tip, timing });
  return root;
}

function row(step, total, line) {
  const [name, kind] = known(step);
  const bar = placed(el("i", { class: `wf-bar bar-${kind}` }), step, total);
  const cells = [
    el("span", { class: "wf-name" }, name),
    el("span", { class: "wf-track" }, bar),
    el("span", { class: "wf-took" }, duration(step.duration_ns)),
  ];
  for (const cell of cells) {
    cell.style.gridRow = String(line);
    cell.classList.toggle("inside", step.inside === true);
  }
  return cells;
}

/** Grid lines, tick labels and the first token's mark, in one layer behind the bars. */
function axis(timing, total) {
  const layer = el("div", { class: "wf-axis" });
  layer.style.gridRow = `1 / span ${timing.steps.length + 1}`;
  const every = tickStep(total);
  for (let at = 0; at <= total; at += every) {
    const tick = el("i", { class: "wf-tick" }, el("b", {}, at === 0 ? "0" : tickLabel(at)));
    tick.style.left = percent(at, total);
    if (at / total > 0.9) tick.classList.add("at-end");
    layer.append(tick);
  }
  if (timing.first_token_ns !== null) {
    const share = timing.first_token_ns / total;
    const mark = el("i", { class: `wf-first${share > 0.6 ? " at-end" : ""}` }, el("b", {}, "first token"));
    mark.style.left = percent(timing.first_token_ns, total);
    layer.append(mark);
  }
  return layer;
}

/** Pointer, tap or arrow keys choose a step; the line below tells about it. */
function choosing(root, { rows, tip, timing }) {
  const rest = overview(timing);
  let chosen = -1;
  const choose = (index) => {
    rows.forEach((cells, at) => cells.forEach((cell) => cell.classList.toggle("chosen", at === index)));
    chosen = index;
    tip.textContent = index < 0 ? rest : told(timing.steps[index]);
  };
  rows.forEach((cells, index) => cells.forEach((cell) => {
    cell.addEventListener("pointerenter", () => choose(index));
    cell.addEventListener("click", () => choose(index));
  }));
  root.addEventListener("pointerleave", () => choose(-1));
  root.addEventListener("blur", () => choose(-1));
  root.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    choose(Math.min(Math.max(chosen + by, 0), rows.length - 1));
  });
  choose(-1);
}

function told(step) {
  const [name, , what] = known(step);
  const span = `${duration(step.start_ns)} → ${duration(step.start_ns + step.duration_ns)}`;
  return `${name}: ${span}. ${what}`.trim();
}

function overview(timing) {
  const own = timing.steps.filter((step) => known(step)[1] === "own").reduce((sum, step) => sum + step.duration_ns, 0);
  const first = timing.first_token_ns;
  if (first === null) return `Slipstream’s own steps took ${duration(own)}.`;
  return `First token after ${duration(first)}; Slipstream’s own steps took ${duration(own)}.`;
}

function spokenTable(timing) {
  const rows = timing.steps.map((step) => el("tr", {}, el("th", { scope: "row" }, known(step)[0]),
    el("td", {}, duration(step.start_ns)), el("td", {}, duration(step.duration_ns))));
  const head = el("tr", {}, ...["Step", "Starts after", "Takes"].map((name) => el("th", { scope: "col" }, name)));
  return el("div", { class: "unseen" }, el("table", {}, el("caption", {}, "Steps of the request"), el("thead", {}, head), el("tbody", {}, ...rows)));
}

function facts(timing) {
  const cached = timing.cached_tokens ? `, ${timing.cached_tokens.toLocaleString("en")} cached` : "";
  const list = [
    ["Model", timing.model],
    ["Served by", timing.upstream],
    ["Attempts", timing.attempts > 1 ? String(timing.attempts) : ""],
    ["Prompt", timing.prompt_tokens === null ? "" : count(timing.prompt_tokens, "token") + cached],
    ["Longest gap", timing.chunk_gap_max_ns === null ? "" : duration(timing.chunk_gap_max_ns)],
    ["Ended", [timing.outcome, timing.finish].filter(Boolean).join(", ")],
  ].filter(([, value]) => value);
  const node = el("dl", { class: "facts" }, ...list.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  if (timing.id) {
    const copy = copyButton("Copy request id", () => timing.id, { className: "tool tool-small" });
    node.append(el("div", { class: "fact-id" }, el("dt", {}, "Request"), el("dd", {}, el("span", { class: "mono" }, timing.id), copy)));
  }
  return node;
}

function known(step) {
  return STEPS.get(step.name) ?? [step.name.replaceAll("_", " "), "other", ""];
}

function totalOf({ duration_ns: took, steps }) {
  return Math.max(took, ...steps.map((step) => step.start_ns + step.duration_ns), 1);
}

function placed(bar, step, total) {
  bar.style.left = percent(step.start_ns, total);
  bar.style.width = percent(step.duration_ns, total);
  return bar;
}

function percent(part, total) {
  return `${Math.min(Math.max((part / total) * 100, 0), 100).toFixed(3)}%`;
}

/** A round step (1, 2 or 5 times a power of ten) that gives at most TICKS_MAX intervals. */
function tickStep(total) {
  const rough = total / TICKS_MAX;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((every) => every >= rough);
}

function tickLabel(ns) {
  const ms = ns / 1e6;
  return ms >= 1000 ? `${Number((ms / 1000).toFixed(2))} s` : `${Number(ms.toPrecision(3))} ms`;
}
