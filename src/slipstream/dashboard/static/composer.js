/* The field where a question is written: grows with it, sends, stops, recalls. Knows no server and no messages. */

import { icon } from "./dom.js";

const FINE_POINTER = matchMedia("(pointer: fine)");

/**
 * Calls `submit(text)`, `stop()`, `recall()` (arrow up in the empty field), `cancel()` (Esc with nothing to stop) and
 * `changed(text)`.
 * `show({mode, hint, placeholder})` draws a state; modes: "ready", "busy" (an answer streams), "queued" (the question
 * waits for the model).
 */
export class Composer {
  #field;
  #button;
  #hint;
  #mode = "ready";
  #on;

  constructor(form, { submit, stop, recall, cancel, changed }) {
    this.#field = form.querySelector("textarea");
    this.#button = form.querySelector("button");
    this.#hint = form.nextElementSibling;
    this.#on = { submit, stop, recall, cancel, changed };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#press();
    });
    form.addEventListener("click", (event) => event.target === form && this.#field.focus());
    this.#field.addEventListener("input", () => this.#changed());
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    this.#face();
  }

  get text() {
    return this.#field.value;
  }

  set text(value) {
    this.#field.value = value;
    this.#field.setSelectionRange(value.length, value.length);
    this.#changed();
  }

  /** Put the cursor here; on a touch screen only where asked, the keyboard covers half of the page. */
  focus({ always = false } = {}) {
    if (always || FINE_POINTER.matches) this.#field.focus({ preventScroll: true });
  }

  show({ mode, hint, placeholder, working = false }) {
    this.#mode = mode;
    this.#field.readOnly = mode === "queued";
    this.#field.placeholder = placeholder;
    if (this.#hint.textContent !== hint) this.#hint.textContent = hint;
    this.#hint.classList.toggle("working", working);
    this.#face();
  }

  #press() {
    if (this.#mode !== "ready") this.#on.stop();
    else if (this.#field.value.trim()) this.#on.submit(this.#field.value.trim());
  }

  #key(event) {
    if (event.isComposing || event.keyCode === 229) return; // an input method is at work
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (this.#mode === "ready") this.#press();
    } else if (event.key === "ArrowUp" && !this.#field.value && this.#mode === "ready") {
      if (this.#on.recall()) event.preventDefault();
    }
  }

  /** Esc, wherever the focus is. */
  escape() {
    if (this.#mode === "ready") this.#on.cancel();
    else this.#on.stop();
  }

  #changed() {
    const { style } = this.#field;
    style.height = "auto";
    style.height = `${this.#field.scrollHeight}px`;
    this.#face();
    this.#on.changed(this.#field.value);
  }

  #face() {
    const stopping = this.#mode !== "ready";
    const label = stopping ? "Stop" : "Send";
    if (this.#button.getAttribute("aria-label") !== label) {
      this.#button.setAttribute("aria-label", label);
      this.#button.title = stopping ? "Stop (Esc)" : "Send (Enter)";
      this.#button.replaceChildren(icon(stopping ? "stop" : "up"));
      this.#button.classList.toggle("stopping", stopping);
    }
    this.#button.disabled = !stopping && !this.#field.value.trim();
  }
}
