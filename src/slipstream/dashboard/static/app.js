/* The page: ties conversation, server, composer and messages together. Every decision about state is here. */

import * as api from "./api.js";
import { Composer } from "./composer.js";
import { Conversation, tabStorage } from "./conversation.js";
import { el, icon, say } from "./dom.js";
import { AnswerView, question } from "./message.js";
import { Notices } from "./notices.js";
import { Follow } from "./scroll.js";
import { ServerWatch } from "./server.js";
import { fromRecord, seenHere } from "./timing.js";

const EXAMPLES = [
  ["What is the capital of France?", "A first question"],
  ["Explain time to first token in two sentences.", "What is measured here"],
  ["Write a Python function that checks whether a word is a palindrome.", "Some code"],
  ["Give me three tips for writing a clear email.", "A short list"],
];
const SPOKEN_CHARACTERS = 4000;
const THEMES = { auto: ["auto", "Colours: as the system"], light: ["sun", "Colours: light"], dark: ["moon", "Colours: dark"] };

const $ = (id) => document.getElementById(id);
const talk = new Conversation(tabStorage());
const notices = new Notices($("notices"));
const follow = new Follow($("scroller"), $("transcript"), $("jump"));
const composer = new Composer($("composer"), { submit, stop, recall, cancel: cancelEdit, changed: keepDraft });
const server = new ServerWatch(serverChanged);

let running = null; // {controller} of the answer that streams
let editing = false; // the composer holds the last question, to replace it
let queued = false; // the composer's text goes out as soon as the model is loaded
let keyTrouble = location.hash === "#login-failed" ? "link" : "asked"; // why a key is asked for
let offered = 0; // models in the list

// ---- asking -----------------------------------------------------------------------------------------------------

function submit(text) {
  if (running) return;
  if (modelLoads()) {
    queued = true;
    composer.text = text;
    showComposer();
    return;
  }
  if (editing) talk.cut(talk.lastQuestion());
  editing = false;
  composer.text = "";
  notices.clear("put-away");
  begin(talk.ask(text, talk.model));
}

function begin(answer) {
  draw();
  follow.toEnd();
  run(answer);
}

function stop() {
  if (queued) {
    queued = false;
    showComposer();
  }
  running?.controller.abort();
}

/** The same question again: a fresh answer stands where the old one stood. */
function retry(old) {
  if (running) return;
  const isLast = old === talk.messages.at(-1);
  const answer = talk.renew(old, talk.model);
  composer.focus();
  if (isLast) begin(answer);
  else {
    draw();
    run(answer);
  }
}

async function run(answer) {
  const view = views.get(answer);
  const controller = new AbortController();
  const seen = { id: "", startedMs: performance.now(), firstMs: null, lastMs: null, usage: null, model: answer.model, finish: "" };
  running = { controller };
  showComposer();
  say("Answering.");
  try {
    for await (const part of api.chat({ model: answer.model, messages: talk.forModel(answer), signal: controller.signal })) {
      take(part, { answer, view, seen });
    }
    answer.state = "done";
  } catch (error) {
    failed(error, { answer, controller });
  }
  running = null;
  answer.finish = seen.finish;
  if (seen.id) answer.timing = seenHere(seen);
  view.finish();
  talk.save();
  showComposer();
  say(spoken(answer));
  if (seen.id) retime(answer);
}

function take(part, { answer, view, seen }) {
  if (part.type === "head") {
    seen.id = part.id;
  } else if (part.type === "text" || part.type === "thought") {
    seen.lastMs = performance.now();
    seen.firstMs ??= seen.lastMs;
    if (part.type === "thought") return view.waitFor("Thinking");
    answer.text += part.text;
    view.append(part.text);
    talk.save();
  } else if (part.type === "usage") {
    seen.usage = part.usage;
  } else if (part.type === "finish") {
    seen.finish = part.reason;
  }
  return undefined;
}

function failed(error, { answer, controller }) {
  if (controller.signal.aborted) {
    answer.state = "stopped";
    return;
  }
  answer.state = "failed";
  if (!(error instanceof api.ApiError)) {
    answer.error = { message: "The page could not read this answer.", hint: "", code: "" };
    throw error; // our own mistake: it belongs in the console
  }
  answer.error = { message: error.message, hint: error.hint, code: error.code };
  if (error.kind === "key") askKey();
  if (error.kind === "gone" || error.status === 503) server.check();
}

async function retime(answer) {
  const record = await api.record(answer.timing.id);
  if (!talk.messages.includes(answer)) return;
  answer.timing = record ? fromRecord(record, answer.timing) : { ...answer.timing, awaited: false };
  views.get(answer)?.retime();
  if (talk.showsSteps && answer === talk.messages.at(-1)) views.get(answer)?.showSteps();
  talk.save();
}

/** Who looks at the latest answer's waterfall sees that of the next one too, and again after a reload. */
function stepsToggled(answer, isOpen) {
  if (answer !== talk.messages.at(-1)) return;
  talk.showsSteps = isOpen;
  talk.save();
}

function spoken({ state, error, text }) {
  if (state === "failed") return `${error.message} ${error.hint}`;
  const shown = text.slice(0, SPOKEN_CHARACTERS);
  return state === "stopped" ? `Stopped. ${shown}` : shown;
}

// ---- editing the last question ------------------------------------------------------------------------------------

function recall() {
  const index = talk.lastQuestion();
  if (index < 0 || running) return false;
  editing = true;
  composer.text = talk.messages[index].text;
  composer.focus({ always: true });
  showComposer();
  draw();
  return true;
}

function keepDraft(text) {
  const draft = editing ? "" : text;
  if (draft === talk.draft) return;
  talk.draft = draft;
  talk.save();
}

function cancelEdit() {
  if (!editing) return;
  editing = false;
  composer.text = "";
  showComposer();
  draw();
}

// ---- drawing --------------------------------------------------------------------------------------------------------

const views = new Map(); // answer -> AnswerView
const questions = new Map(); // question -> {node, last}

/** Bring the transcript in line with the conversation; what stands already is left alone. */
function draw() {
  const last = talk.lastQuestion();
  const nodes = talk.messages.map((message, index) => {
    if (message.role === "user") return questionNode(message, index === last);
    const by = index > 1 && message.model !== talk.messages[index - 2].model; // another model than before
    if (!views.has(message)) views.set(message, new AnswerView(message, { retry, toggled: stepsToggled, by }));
    return views.get(message).node;
  });
  for (const known of [views, questions]) for (const message of known.keys()) if (!talk.messages.includes(message)) known.delete(message);
  const root = $("transcript");
  nodes.forEach((node, index) => root.children[index] !== node && root.insertBefore(node, root.children[index] ?? null));
  while (root.children.length > nodes.length) root.lastChild.remove();
  questionNodeOf(last)?.classList.toggle("editing", editing);
  $("welcome").hidden = nodes.length > 0;
  document.body.classList.toggle("empty", nodes.length === 0);
}

function questionNode(message, last) {
  const known = questions.get(message);
  if (known?.last === last) return known.node;
  const fresh = { node: question(message.text, last ? recall : null), last };
  known?.node.replaceWith(fresh.node);
  questions.set(message, fresh);
  return fresh.node;
}

function questionNodeOf(index) {
  return questions.get(talk.messages[index])?.node;
}

function showComposer() {
  const waiting = modelLoads();
  const mode = running ? "busy" : queued ? "queued" : "ready";
  let hint = "Enter sends · Shift+Enter for a new line";
  if (running) hint = "Esc stops";
  else if (queued) hint = `Sent as soon as ${loadingName()} is loaded · Esc to take it back`;
  else if (waiting) hint = `Loading ${loadingName()} …`;
  else if (editing) hint = "Editing your last question · Esc cancels";
  else if (modelFails()) hint = `${talk.model} does not start`;
  const placeholder = waiting ? "The model is loading; write your question meanwhile" : "Ask anything";
  composer.show({ mode, hint, placeholder, working: waiting && !running });
  document.body.classList.toggle("busy", Boolean(running));
  $("new-chat").disabled = talk.messages.length === 0;
}

/** Whether the chosen model is among those that the server still loads; until the list has come, any of them. */
function modelLoads() {
  return talk.model ? server.loading.includes(talk.model) : server.loading.length > 0;
}

/** Whether the chosen model does not start: a question is sent all the same, the server's answer says why. */
function modelFails() {
  return server.failed.includes(talk.model);
}

function loadingName() {
  return talk.model || server.loading.join(", ");
}

// ---- the server -----------------------------------------------------------------------------------------------------

async function serverChanged() {
  if (server.isGone) notices.gone();
  else notices.clear("gone");
  showComposer();
  if (server.isGone) return;
  if (!offered || !server.loading.length) await offerModels();
  showFailure();
  if (!queued || modelLoads()) return;
  queued = false;
  showComposer();
  if (!modelFails()) submit(composer.text.trim());
}

/** Say it while the chosen model does not start; a notice that matters more stays. */
function showFailure() {
  if (!modelFails()) notices.clear("failed");
  else if (["", "failed", "put-away"].includes(notices.kind)) notices.failed(talk.model, { others: offered > 1 });
}

async function offerModels() {
  let models;
  try {
    models = await api.models();
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    if (error.kind === "key") askKey();
    else if (error.kind === "gone") server.check();
    return;
  }
  notices.clear("key");
  offered = models.length;
  const chosen = models.find(({ id }) => id === talk.model) ?? models.find(({ isDefault }) => isDefault) ?? models[0];
  talk.model = chosen?.id ?? "";
  const options = models.map(({ id, state }) =>
    el("option", { value: id, selected: id === talk.model }, !state || state === "ready" ? id : `${id} (${state})`));
  const told = ({ textContent, value }) => `${value} ${textContent}`;
  if (options.map(told).join() !== [...$("model").options].map(told).join()) $("model").replaceChildren(...options); // else it closes
  $("picker").hidden = models.length === 0;
  $("picker").classList.toggle("single", models.length === 1);
}

function askKey() {
  notices.key({
    why: keyTrouble,
    use(value) {
      keyTrouble = "refused";
      api.useKey(value);
      notices.clear("key");
      offerModels().then(() => {
        if (notices.kind === "key") return;
        composer.focus({ always: true });
        if (talk.messages.at(-1)?.state === "failed") retry(talk.messages.at(-1));
      });
    },
  });
}

// ---- the page's own controls ------------------------------------------------------------------------------------------

function newChat() {
  stop();
  const before = [...talk.messages];
  talk.cut(0);
  editing = false;
  composer.text = "";
  draw();
  showComposer();
  composer.focus({ always: true });
  say("New chat.");
  if (["", "put-away"].includes(notices.kind)) notices.putAway(() => bringBack(before));
}

function bringBack(messages) {
  if (running) return;
  notices.clear("put-away");
  talk.messages.push(...messages);
  talk.save();
  draw();
  showComposer();
  follow.toEnd();
  composer.focus();
}

function showTheme(choice) {
  const [name, label] = THEMES[choice];
  $("theme").replaceChildren(icon(name));
  $("theme").setAttribute("aria-label", label);
  $("theme").title = label;
}

function setUp() {
  showTheme(globalThis.slipstreamTheme.current());
  $("theme").addEventListener("click", () => showTheme(globalThis.slipstreamTheme.next()));
  $("new-chat").append(icon("plus"), el("span", {}, "New chat"));
  $("new-chat").addEventListener("click", newChat);
  $("jump").append(icon("down"));
  $("jump").setAttribute("aria-label", "Jump to latest");
  $("jump").title = "Jump to latest";
  $("model").addEventListener("change", () => {
    talk.model = $("model").value;
    talk.save();
    showComposer();
    showFailure();
    composer.focus();
  });
  $("examples").append(...EXAMPLES.map(([text, about]) => el("li", {}, el("button", { type: "button", onclick: () => submit(text) },
    el("small", {}, about), el("span", {}, text)))));
  $("scroller").addEventListener("scroll", () => document.body.classList.toggle("scrolled", $("scroller").scrollTop > 4), { passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.defaultPrevented) composer.escape();
    const typing = event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (typing && document.activeElement === document.body) composer.focus({ always: true });
  });
  draw();
  composer.text = talk.draft;
  showComposer();
  composer.focus();
  follow.toEnd();
  const latest = talk.messages.at(-1);
  if (latest?.timing?.awaited) retime(latest); // the reload was faster than the record
  else if (talk.showsSteps && latest) views.get(latest).showSteps();
  if (location.hash) history.replaceState(null, "", "/");
  server.check();
}

setUp();
