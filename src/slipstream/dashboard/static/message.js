/* How a question and an answer look, and how an answer grows. Knows no server and no storage. */

import { copyButton, el, icon, iconButton } from "./dom.js";
import { markdown, MarkdownStream, nodes } from "./markdown.js";
import { summary } from "./timing.js";
import { strip, waterfall } from "./waterfall.js";

/** Time between two drawings, as a multiple of what the last one cost: a huge answer never fills the thread. */
const REST_FACTOR = 3;

const ENDS = {
  length: "The answer reached its length limit.",
  content_filter: "The model’s provider cut this answer short.",
};

/** A question; `edit()` is offered where given. Its text runs from right to left where it begins so. */
export function question(text, edit) {
  const tools = el("div", { class: "question-tools" });
  if (edit) tools.append(iconButton("pencil", "Edit question (arrow up)", edit));
  return el("article", { class: "question", "aria-label": "You" }, tools, el("div", { class: "bubble", dir: "auto" }, text));
}

/**
 * An answer on the page. `message` is its entry in the conversation; `retry(message)` asks the same again,
 * `toggled(message, isOpen)` hears that the reader opened or closed the waterfall. `by` = name the model.
 */
export class AnswerView {
  node;
  #message;
  #on;
  #body = el("div", { class: "prose" });
  #after = el("div", { class: "after" });
  #waiting = el("p", { class: "waiting" }, el("span", { class: "dots", "aria-hidden": "true" }, el("i"), el("i"), el("i")), el("span", { class: "waiting-text" }));
  #stream;
  #pending = "";
  #frame = 0;
  #restUntil = 0;

  constructor(message, { retry, toggled, by }) {
    this.#message = message;
    this.#on = { retry: () => retry(message), toggled: (isOpen) => toggled(message, isOpen) };
    this.node = el("article", { class: "answer", "aria-label": "Answer" }, by ? el("p", { class: "by" }, message.model) : "", this.#body, this.#after);
    if (message.state === "streaming") this.#begin();
    else this.#end();
  }

  /** A piece of text came. */
  append(text) {
    this.#waiting.remove();
    this.#pending += text;
    this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  /** Say what is being waited for, as long as there is no text. */
  waitFor(text) {
    this.#waiting.lastChild.textContent = text;
  }

  /** The answer is over, however it ended: `message` says. */
  finish() {
    cancelAnimationFrame(this.#frame);
    this.#waiting.remove();
    if (this.#pending) this.#stream.push(this.#pending);
    this.#pending = "";
    this.#stream.finish();
    this.node.classList.remove("streaming");
    this.node.removeAttribute("aria-busy");
    this.#close();
  }

  /** A better timing came: the line and the open panel change in place, whoever stands on them keeps the focus. */
  retime() {
    const details = this.#after.querySelector(".timing");
    if (details) fillTiming(details, this.#message.timing);
  }

  /** Open the waterfall. */
  showSteps() {
    const details = this.#after.querySelector(".timing");
    if (details) details.open = true;
  }

  #begin() {
    this.#stream = new MarkdownStream(this.#body);
    this.node.classList.add("streaming");
    this.node.setAttribute("aria-busy", "true");
    this.node.append(this.#waiting);
  }

  #paint() {
    this.#frame = 0;
    const started = performance.now();
    if (started < this.#restUntil) {
      this.#frame = requestAnimationFrame(() => this.#paint());
      return;
    }
    this.#stream.push(this.#pending);
    this.#pending = "";
    const cost = performance.now() - started;
    if (cost > 4) this.#restUntil = started + cost * (1 + REST_FACTOR);
  }

  #end() {
    markdown(this.#message.text, this.#body);
    this.#close();
  }

  #close() {
    const { state, error, finish, text } = this.#message;
    const parts = [];
    if (state === "stopped") parts.push(el("p", { class: "note" }, text ? "Stopped." : "Stopped before the first word."));
    else if (state === "failed") parts.push(this.#failure(error));
    else if (ENDS[finish]) parts.push(el("p", { class: "note" }, ENDS[finish]));
    else if (!text) parts.push(el("p", { class: "note" }, "The model answered with nothing."));
    parts.push(this.#foot());
    this.#after.replaceChildren(...parts);
  }

  #failure(error) {
    const words = [el("p", { class: "failure-title" }, ...nodes(error?.message || "Something went wrong."))];
    if (error?.hint) words.push(el("p", {}, ...nodes(error.hint)));
    if (error?.code === "context_length_exceeded") words.push(el("p", {}, "The model is told the whole conversation: a new chat begins with an empty one."));
    if (!this.#message.text) words.push(el("p", { class: "left-out" }, "This question is left out of what the model is told."));
    const again = el("button", { type: "button", class: "plain-button", onclick: this.#on.retry }, icon("again"), "Try again");
    return el("div", { class: "failure" }, icon("alert"), el("div", {}, ...words), again);
  }

  #foot() {
    const tools = el("div", { class: "answer-tools" });
    if (this.#message.text) tools.append(copyButton("Copy answer", () => this.#message.text));
    if (this.#message.state !== "failed") tools.append(iconButton("again", "Answer again", this.#on.retry, { className: "tool again" }));
    return el("div", { class: "foot" }, this.#timing() ?? "", tools);
  }

  #timing() {
    if (!this.#message.timing) return null;
    const line = el("summary", { onclick: () => this.#on.toggled(!details.open) }); // a click of the keyboard's too
    const details = el("details", { class: "timing" }, line);
    fillTiming(details, this.#message.timing);
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) details.append(waterfall(this.#message.timing)); // drawn when first wanted
    });
    return details;
  }
}

function fillTiming(details, timing) {
  const [line, panel] = details.children;
  const parts = summary(timing);
  line.setAttribute("aria-label", `Timing: ${parts.join(", ")}`);
  line.replaceChildren(icon("chevron"), strip(timing), el("span", { class: "figures" }, ...parts.map((part) => el("span", {}, part))));
  if (details.open) panel?.replaceWith(waterfall(timing));
  else panel?.remove();
}
