/* The dashboard: ties feed, address, charts, tables and keys together. Every decision about state is here. */

import * as api from "./board-api.js";
import { Alerts } from "./alerts.js";
import { RANGES, read, written } from "./board-url.js";
import { Columns } from "./columns.js";
import { el, icon, say } from "./dom.js";
import { ChartFigure } from "./figure.js";
import { HeatMap } from "./heatmap.js";
import { Models } from "./models.js";
import { Requests } from "./requests.js";
import { Tiles } from "./tiles.js";
import { span } from "./units.js";

const THEMES = { auto: ["auto", "Colours: as the system"], light: ["sun", "Colours: light"], dark: ["moon", "Colours: dark"] };
const FRAMES_SECONDS = 900; // longer live ranges are asked for again instead of growing by frames
const HEAT_POINTS = 140;
const HEAT_EVERY = 5; // seconds
const REQUESTS_EVERY = 2;
const JUST_NOW_SECONDS = 10;
const RESYNC_EVERY = 60;
const AROUND_SECONDS = 15; // what a point of a quantile tells of

const $ = (id) => document.getElementById(id);
const state = read(location.search);
const columns = new Columns();
const figures = new Map(); // chart id -> ChartFigure
const tiles = new Tiles($("overview"));
const models = new Models();
const requests = new Requests({ changed: requestsChanged, range: () => (isLive() ? null : { from: state.from, to: state.to }) });
const alerts = new Alerts({ changed: loadMarks });
let heat = null;
let charts = [];
let marks = [];
let seconds = 0; // frames seen
let loading = null;
let told = { at: Date.now() / 1000, seen: performance.now() }; // the server's clock: the browser's may be set otherwise

// ---- the range ------------------------------------------------------------------------------------------------------

function isLive() {
  return state.from === null;
}

/** Now by the server's clock, in seconds. */
function now() {
  return told.at + (performance.now() - told.seen) / 1000;
}

/** What shows, from and to. */
function range() {
  return isLive() ? [now() - state.seconds, now()] : [state.from, state.to];
}

/** The same for marks: one that was just made is later than the newest frame. */
function rangeOfMarks() {
  const [from, to] = range();
  return [from, isLive() ? to + JUST_NOW_SECONDS : to];
}

function growsByFrames() {
  return isLive() && state.seconds <= FRAMES_SECONDS;
}

function zoom(from, to) {
  Object.assign(state, { from: Math.floor(from), to: Math.max(Math.ceil(to), Math.floor(from) + 5) });
  rangeChanged();
  say(`Zoomed to ${span(state.to - state.from)}.`);
}

function unzoom() {
  if (isLive()) return;
  Object.assign(state, { from: null, to: null });
  rangeChanged();
  say("Live.");
}

function rangeChanged({ push = true } = {}) {
  if (push) history.pushState(null, "", written(state));
  showRange();
  load();
  requests.refresh();
}

function requestsChanged(filters) {
  state.requests = filters;
  history.replaceState(null, "", written(state));
}

/** Fetch the range that shows, as fine as the page is wide. A newer call makes an older one's answer void. */
async function load() {
  const mine = {};
  loading = mine;
  const [from, to] = range();
  const points = growsByFrames() ? state.seconds : Math.round(Math.min(Math.max(innerWidth / 2.5, 150), 500));
  await guarded(async () => {
    const [all, map, found] = await Promise.all([
      api.series(from, to, points, charts.filter(({ drawn }) => drawn === "lines").map(({ id }) => id)),
      loadHeat(from, to),
      alerts.load(...rangeOfMarks()),
    ]);
    if (loading !== mine) return;
    columns.replace(all);
    marks = found;
    drawAll(new Map(all.pictures.map(({ id, takeaway }) => [id, takeaway])));
    showHeat(map);
  });
}

function loadHeat(from, to) {
  return api.series(from, to, HEAT_POINTS, ["heat"]);
}

function showHeat({ times, step, pictures: [picture] }) {
  heat?.set(times, step, picture.heat, picture.takeaway);
}

// ---- drawing --------------------------------------------------------------------------------------------------------

function build(layout) {
  charts = layout.charts;
  tiles.lay(layout.tiles);
  const acts = { zoom, unzoom, pick, sync: "board" };
  const parts = Object.entries(layout.sections).map(([id, title]) => {
    const own = charts.filter(({ section }) => section === id);
    const nodes = own.map((chart) => {
      const figure = chart.drawn === "heat" ? new HeatMap(chart, { pickCell }) : new ChartFigure(chart, acts);
      if (chart.drawn === "heat") heat = figure;
      else figures.set(chart.id, figure);
      return figure.node;
    });
    if (!nodes.length) return "";
    return el("section", { class: "part", id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title),
      ...(id === "models" ? [models.node] : []), el("div", { class: "charts" }, ...nodes));
  });
  $("overview").id = "now";
  const at = parts.findIndex((part) => part.id === "models");
  parts.splice(at, 0, ...(layout.records ? [requests.node] : []));
  $("sections").replaceChildren(...parts, ...(layout.alerts ? [alerts.node] : []));
  if (layout.alerts) alerts.begin();
  requests.lay(layout.filters, state.requests);
  if (state.tables) showTables();
}

/** Every chart from the columns; `takeaways` by id where they are new. */
function drawAll(takeaways = new Map()) {
  for (const chart of charts) {
    const figure = figures.get(chart.id);
    if (!figure) continue;
    const lines = columns.lines(chart.id);
    figure.node.hidden = chart.optional && lines.length === 0;
    if (!figure.node.hidden) figure.set(columns.times, lines, { takeaway: takeaways.get(chart.id) ?? null, marks });
  }
}

/** Ask for the marks of what shows; the charts stay as they are. */
async function loadMarks() {
  await guarded(async () => {
    marks = await alerts.load(...rangeOfMarks());
    drawAll();
  });
}

function onFrame(frame) {
  const grows = growsByFrames() && columns.step === 1;
  seconds += 1;
  told = { at: frame.at + 1, seen: performance.now() };
  columns.keep(frame);
  if (grows) {
    columns.push(frame, state.seconds);
    drawAll();
  }
  tiles.tell(frame.tiles, (metric) => (isLive() ? columns.behind(metric, charts) : null));
  models.tell(frame);
  showFiring(frame.firing);
  const step = Math.max(columns.step, HEAT_EVERY);
  if (isLive() && !grows && seconds % step === 0) load();
  else if (grows && seconds % RESYNC_EVERY === 0) load();
  else if (isLive() && seconds % HEAT_EVERY === 0) refreshHeat();
  if (isLive() && !requests.isRead && seconds % REQUESTS_EVERY === 0) requests.refresh();
  if (seconds % HEAT_EVERY === 0) alerts.refresh();
}

async function refreshHeat() {
  await guarded(async () => {
    const map = await loadHeat(now() - state.seconds, now());
    if (isLive()) showHeat(map);
  });
}

// ---- what a click finds ---------------------------------------------------------------------------------------------

/** The requests of a moment of a chart; of a latency chart those that took long. */
function pick(chart, at, values) {
  const width = Math.max(columns.step, AROUND_SECONDS); // up to the point, as it was measured
  const known = values.filter((value) => value !== null);
  const before = chart.unit === "ms" && known.length ? Math.max(...known) / 1000 : 0; // requests are listed by their arrival
  const lowest = chart.id === "response_time" ? Math.min(...known) : NaN;
  showRequests({ since: Math.floor(at + columns.step - width - before), until: at + columns.step, min_ms: Number.isFinite(lowest) ? Math.floor(lowest) : "" });
}

function pickCell(from, to, low) {
  showRequests({ since: from, until: to, min_ms: Math.floor(low) || "" });
}

function showRequests(filters) {
  requests.focusOn(filters);
  requests.node.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

// ---- the page's own controls ----------------------------------------------------------------------------------------

async function guarded(work) {
  try {
    await work();
    showNotice(null);
  } catch (error) {
    if (!(error instanceof api.FeedError)) throw error;
    showNotice(error);
  }
}

function showNotice(error) {
  $("notice").hidden = !error;
  if (error) $("notice").replaceChildren(icon(error.status === 401 ? "key" : "alert"), el("p", {}, el("b", {}, error.message), ` ${error.hint}`));
}

function showPulse(name) {
  const words = { live: "Live", paused: "Paused", gone: "No connection" };
  $("pulse").textContent = isLive() || name !== "live" ? words[name] : "Zoomed";
  $("pulse").dataset.state = isLive() ? name : "paused";
}

function showFiring(firing) {
  const words = firing ? `${firing} ${firing === 1 ? "alert" : "alerts"} firing` : "";
  $("firing").hidden = !firing;
  if ($("firing").ariaLabel === words) return;
  $("firing").ariaLabel = words;
  if (!firing) return;
  $("firing").replaceChildren(icon("alert"), String(firing), el("span", {}, words.slice(String(firing).length)));
  say(words);
}

function showRange() {
  const options = RANGES.map((each) => el("option", { value: String(each), selected: isLive() && each === state.seconds }, `Last ${span(each)}`));
  if (!isLive()) options.unshift(el("option", { value: "", selected: true }, `${span(state.to - state.from)}, zoomed`));
  $("range").replaceChildren(...options);
  $("unzoom").hidden = isLive();
  showPulse("live");
}

function showTables() {
  for (const figure of [...figures.values(), heat]) figure?.showTable(state.tables);
  $("tables").setAttribute("aria-pressed", String(state.tables));
}

function toggleTables() {
  state.tables = !state.tables;
  history.replaceState(null, "", written(state));
  showTables();
}

function showTheme(choice) {
  const [name, label] = THEMES[choice];
  $("theme").replaceChildren(icon(name));
  $("theme").setAttribute("aria-label", label);
  $("theme").title = label;
  for (const figure of [...figures.values(), heat]) figure?.restyle();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  const act = { "/": () => requests.focus(), "?": () => $("sheet").showModal(), t: toggleTables, r: unzoom }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function setUp() {
  for (const [id, name, label] of [["tables", "table", "Charts as tables (t)"], ["help", "help", "Keys and hints (?)"]]) {
    $(id).append(icon(name));
    $(id).setAttribute("aria-label", label);
    $(id).title = label;
  }
  $("tables").addEventListener("click", toggleTables);
  $("help").addEventListener("click", () => $("sheet").showModal());
  $("unzoom").addEventListener("click", unzoom);
  $("theme").addEventListener("click", () => showTheme(globalThis.slipstreamTheme.next()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showTheme(globalThis.slipstreamTheme.current()));
  $("range").addEventListener("change", () => {
    if (!$("range").value) return;
    Object.assign(state, { seconds: Number($("range").value), from: null, to: null });
    rangeChanged();
  });
  addEventListener("popstate", () => {
    Object.assign(state, read(location.search));
    rangeChanged({ push: false });
  });
  document.addEventListener("keydown", onKey);
  showTheme(globalThis.slipstreamTheme.current());
  showRange();
}

async function start() {
  await guarded(async () => {
    const layout = await api.layout();
    told = { at: layout.now, seen: performance.now() };
    build(layout);
    new api.Live({ frame: onFrame, state: showPulse, resumed: load }).start();
    await Promise.all([load(), requests.refresh(), alerts.refresh()]);
  });
  document.body.classList.add("ready");
}

setUp();
start();
