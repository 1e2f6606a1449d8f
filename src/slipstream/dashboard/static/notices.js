/* What stands above the composer: the server is gone, or it asks for a key. */

import { el, icon } from "./dom.js";

/** Shows at most one notice at a time. */
export class Notices {
  #root;
  #kind = "";

  constructor(root) {
    this.#root = root;
  }

  get kind() {
    return this.#kind;
  }

  /** The server does not answer; it is being asked again. */
  gone() {
    if (this.#kind === "gone") return;
    this.#show("gone", el("div", { class: "notice", role: "alert" }, icon("alert"),
      el("p", {}, el("strong", {}, "The server does not answer."), " Your conversation is safe here; trying again …")));
  }

  /** The server asks for a key; `use(key)` is called with the one pasted in. */
  key({ refused, use }) {
    const field = el("input", {
      type: "password", id: "key", name: "key", autocomplete: "off", spellcheck: "false", required: true,
      placeholder: "API key", "aria-describedby": "key-help",
    });
    const submit = (event) => {
      event.preventDefault();
      const value = field.value.trim();
      field.value = "";
      if (value) use(value);
    };
    const form = el("form", { class: "key-form", onsubmit: submit },
      el("label", { class: "unseen", for: "key" }, "API key"), field, el("button", { class: "plain-button", type: "submit" }, "Use key"));
    this.#show("key", el("section", { class: "notice notice-key", "aria-labelledby": "key-title" }, icon("key"),
      el("div", {},
        el("h2", { id: "key-title" }, refused ? "That key was not accepted." : "This server asks for a key."),
        el("p", { id: "key-help" }, "Open the one-time link printed at its start, or paste an API key. It stays in this page’s memory and is forgotten on reload."),
        form)));
    field.focus();
  }

  /** Take the notice away, or only one of that kind. */
  clear(kind = this.#kind) {
    if (kind !== this.#kind) return;
    this.#kind = "";
    this.#root.replaceChildren();
  }

  #show(kind, node) {
    this.#kind = kind;
    this.#root.replaceChildren(node);
  }
}
