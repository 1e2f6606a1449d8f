/* The page of profiles: asks for steps, stalls, use and profiles of the running server, and lays them out. */

import * as api from "./board-api.js";
import { icon, say } from "./dom.js";
import { Flame } from "./flame.js";
import { StoredRequest } from "./profile-request.js";
import { stallItems, stepsTable, useTable } from "./profile-tables.js";
import { strips } from "./strips.js";
import { span } from "./units.js";

const PREFIX = "/_slipstream";
const RANGES = [300, 900, 3600, 21_600, 86_400];
const AGAIN_SECONDS = 5;
const STRIP_POINTS = 120;
const PROGRESS_MS = 100;

const $ = (id) => document.getElementById(id);
const flame = new Flame($("flame"), { tip: $("flame-tip"), zoomed: (isZoomed) => { $("widen").hidden = !isZoomed; } });
const request = new StoredRequest($("request"));
let seconds = 900;
let isAsking = false;

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
  if (error) $("notice").replaceChildren(icon(error.status === 401 ? "key" : "alert"), `${error.message} ${error.hint}`);
}

async function refresh() {
  const now = Date.now() / 1000;
  // Resources take a second where nobody has looked lately: the rest does not wait for them.
  await guarded(() => Promise.all([
    Promise.all([
      api.optional(`${PREFIX}/steps?from=${now - seconds}`),
      api.optional(`${PREFIX}/stalls`),
      api.series(now - seconds, now, STRIP_POINTS, ["loop_lag", "gc"]),
    ]).then(([steps, stalls, drawn]) => showRequests(steps, stalls, drawn)),
    api.optional(`${PREFIX}/use`).then((use) => $("use").replaceChildren(useTable(use?.rows ?? []))),
  ]));
}

function showRequests(steps, stalls, drawn) {
  const { said, table } = stepsTable(steps);
  $("steps-said").textContent = said;
  $("steps-table").hidden = !table;
  $("steps-table").replaceChildren(...(table ? [table] : []));
  request.offer(steps?.slowest ?? []);
  if (!$("stalls").contains(document.activeElement)) $("stalls").replaceChildren(...stallItems(stalls));
  $("strips").replaceChildren(...strips(drawn));
}

function showProfile(found) {
  const said = flame.show(found);
  $("flame-said").textContent = said;
  say(said);
}

async function profile(event) {
  event.preventDefault();
  if (isAsking) return;
  isAsking = true;
  const asked = Number($("seconds").value);
  const stop = progress(asked);
  $("start").disabled = true;
  await guarded(async () => showProfile(await api.send(`${PREFIX}/profile`, { what: "cpu", seconds: asked })));
  stop();
  $("start").disabled = false;
  isAsking = false;
}

/** A bar that fills in so many seconds; the answer ends it. */
function progress(length) {
  const began = performance.now();
  const bar = $("progress");
  bar.hidden = false;
  const timer = setInterval(() => { bar.value = Math.min(1, (performance.now() - began) / 1000 / length); }, PROGRESS_MS);
  return () => {
    clearInterval(timer);
    bar.hidden = true;
  };
}

async function begin() {
  $("range").replaceChildren(...RANGES.map((each) => new Option(`Last ${span(each)}`, String(each), each === seconds, each === seconds)));
  $("range").addEventListener("change", () => {
    seconds = Number($("range").value);
    refresh();
  });
  $("ask").addEventListener("submit", profile);
  $("widen").addEventListener("click", () => flame.widen());
  $("find").addEventListener("input", () => flame.find($("find").value));
  $("find").addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
  await Promise.all([refresh(), request.follow()]);
  await guarded(async () => {
    const last = await api.optional(`${PREFIX}/profile?what=cpu`);
    if (last) showProfile(last);
  });
  setInterval(() => document.hidden || refresh(), AGAIN_SECONDS * 1000);
}

begin();
