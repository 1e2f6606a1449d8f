/* The doctor's page: has the server look, follows how far it is, lays out what it found, applies and verifies a fix. */

import * as api from "./board-api.js";
import { coded, el, icon, say } from "./dom.js";
import { cancelled, fixInWords, nothingYet, report, verified } from "./doctor-report.js";
import { entriesTable, scoresTable } from "./doctor-ledger.js";

const RUN = "/_slipstream/doctor/run";
const LEDGER = "/_slipstream/ledger";
const WINDOWS = { "15m": "Last 15 min", "1h": "Last hour", "6h": "Last 6 hours", "24h": "Last 24 hours" };
const AGAIN_MS = 700;
const BUSY = 409;
const MISSES_MAX = 5; // a worker that is started again costs one answer, and the run goes on
const SETTLING_SECONDS = 15; // beside the load: looking again, and waiting for the last answers

const $ = (id) => document.getElementById(id);
let shown = 0; // the number of the run that is laid out
let isFollowing = false;
let isEnding = false; // somebody has cancelled what runs: said until it is over, whatever it says itself meanwhile
let chosen = null; // the cause that is asked about

async function guarded(work) {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof api.FeedError)) throw error;
    showNotice(error);
    return false;
  }
}

function showNotice(error) {
  $("notice").hidden = !error;
  if (error) $("notice").replaceChildren(icon(error.status === 401 ? "key" : "alert"), `${error.message} ${error.hint}`);
}

/** Begin a run and follow it; where one is under way already, follow that. */
async function start(asked) {
  showNotice(null);
  await guarded(async () => {
    try {
      await api.send(RUN, asked);
    } catch (error) {
      if (!(error instanceof api.FeedError) || error.status !== BUSY) throw error;
      showNotice(error);
    }
  });
  await follow();
}

/** Show how far the run is until it is over, then what it has come to. */
async function follow() {
  if (isFollowing) return;
  isFollowing = true;
  let run = null;
  let misses = 0;
  for (;;) {
    const isTold = await guarded(async () => { run = await api.optional(RUN); });
    if (isTold && misses) showNotice(null);
    misses = isTold ? 0 : misses + 1;
    if (misses >= MISSES_MAX || (isTold && run?.state !== "running")) break;
    showWork(run);
    await new Promise((resolve) => { setTimeout(resolve, AGAIN_MS); });
  }
  showWork(null);
  isFollowing = false;
  if (run && !misses) await showEnd(run);
}

function showWork(run) {
  const isRunning = run?.state === "running";
  $("work").hidden = !isRunning;
  $("look").disabled = isRunning;
  document.body.classList.toggle("is-working", isRunning); // no fix is applied beside another run
  for (const button of document.querySelectorAll("button.apply")) button.disabled = isRunning;
  if (!isRunning) {
    isEnding = false;
    return;
  }
  if (isEnding) {
    $("work-said").textContent = run.apply === null ? "ending it" : "ending it, and taking back what it has changed";
    return;
  }
  const words = run.line || (run.apply === null ? "looking" : "looking again, to apply what it advises");
  $("work-said").textContent = `${words} · ${Math.round(run.seconds)} s`;
  if (run.apply === null || !run.verify_seconds) $("progress").removeAttribute("value");
  else $("progress").value = Math.min(0.98, run.seconds / (run.verify_seconds + SETTLING_SECONDS));
}

async function showEnd(run) {
  if (run.state === "idle") {
    $("found").replaceChildren(nothingYet());
    return;
  }
  const isNew = run.number !== shown;
  shown = run.number;
  if (run.state === "failed" || run.state === "cancelled") {
    if (run.state === "failed") showNotice(new api.FeedError(run.error, { hint: run.hint }));
    else $("verified").replaceChildren(cancelled(run));
    if (isNew) say(`${run.error} ${run.hint}`);
    if (!$("found").childElementCount) $("found").replaceChildren(nothingYet());
  } else if (run.apply === null) {
    $("verified").replaceChildren();
    $("found").replaceChildren(...report(run, confirm));
    if (isNew) say(run.result.verdict);
  } else {
    const node = verified(run);
    $("verified").replaceChildren(node);
    if (!$("found").childElementCount) $("found").replaceChildren(nothingYet());
    for (const button of document.querySelectorAll("#found button.apply")) {
      button.replaceWith(el("p", { class: "quiet" }, "Found before a fix was tried: look again for what is true now."));
    }
    node.scrollIntoView({ block: "nearest" });
    say(node.firstElementChild.textContent);
  }
  await showLedger();
}

async function showLedger() {
  await guarded(async () => {
    const ledger = await api.optional(LEDGER);
    $("ledger-said").replaceChildren(...coded(ledger?.said ?? "This server tells of no ledger."));
    $("ledger-tables").replaceChildren(...(ledger?.entries.length ? [entriesTable(ledger.entries), scoresTable(ledger)] : []));
  });
}

function confirm(cause, since) {
  chosen = { cause, since };
  $("confirm-what").replaceChildren(...fixInWords(cause.advice.fix));
  $("confirm").showModal();
}

function verifyBy() {
  const live = $("verify-by").value === "live";
  $("confirm-live").hidden = !live;
  $("confirm-replay").hidden = live;
  $("seconds").value = live ? 300 : 60;
}

function apply(event) {
  event.preventDefault();
  $("confirm").close();
  const { cause, since } = chosen;
  const { fix } = cause.advice;
  $("verified").replaceChildren();
  start({ since, apply: cause.number, verify_seconds: Number($("seconds").value), verify_by: $("verify-by").value, expect: `${fix.setting}=${fix.after}` });
  scrollTo({ top: 0 });
}

async function cancel() {
  isEnding = true;
  $("work-said").textContent = "ending it";
  isEnding = await guarded(() => api.send(RUN, null, "DELETE")) && isFollowing;
}

function look() {
  const since = $("since").value;
  history.replaceState(null, "", `?since=${since}`);
  return start({ since });
}

async function begin() {
  const asked = new URLSearchParams(location.search).get("since");
  const since = Object.hasOwn(WINDOWS, asked ?? "") ? asked : "1h";
  $("since").replaceChildren(...Object.entries(WINDOWS).map(([value, name]) => new Option(name, value, value === since, value === since)));
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
  $("cancel").addEventListener("click", cancel);
  $("confirm-no").addEventListener("click", () => $("confirm").close());
  $("confirm-form").addEventListener("submit", apply);
  $("verify-by").addEventListener("change", verifyBy);
  showLedger();
  if (asked === since) await look();
  else await follow();
}

begin();
