/* What stands above the composer: the server is gone, it asks for a key, a model does not start, a chat was put away. */

import { el, icon } from "./dom.js";

const KEY_TITLES = {
  asked: "This server asks for a key.",
  refused: "That key was not accepted.",
  link: "That login link is no longer good.",
};

/** Shows at most one notice at a time. */
export class Notices {
  #root;
  #kind = "";
  #about = "";

  constructor(root) {
    this.#root = root;
  }

  get kind() {
    return this.#kind;
  }

  /** The server does not answer; it is being asked again. */
  gone() {
    this.#show("gone", "", el("div", { class: "notice", role: "alert" }, icon("alert"),
      el("p", {}, el("strong", {}, "The server does not answer."), " Your conversation is safe here; trying again …")));
  }

  /** The chosen model does not start; `others` = there are models that do. */
  failed(name, { others }) {
    const instead = others ? " Choose another model above, or wait for it." : "";
    this.#show("failed", name, el("div", { class: "notice", role: "alert" }, icon("alert"),
      el("p", {}, el("strong", {}, `The model ${name} does not start.`), ` The server goes on trying.${instead} Its log says why; `,
        el("code", {}, "slipstream pull"), " fetches a model file that is missing or broken.")));
  }

  /** A chat was put away; `bring()` brings it back. */
  putAway(bring) {
    this.clear();
    this.#show("put-away", "", el("div", { class: "notice" }, el("p", {}, "The last chat was put away."),
      el("button", { class: "plain-button", type: "button", onclick: bring }, "Bring it back")));
  }

  /** The server asks for a key; `why`: "asked", "refused" (that key) or "link" (a login link that is no longer good). */
  key({ why, use }) {
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
    const fresh = this.#show("key", why, el("section", { class: "notice notice-key", "aria-labelledby": "key-title" }, icon("key"),
      el("div", {},
        el("h2", { id: "key-title" }, KEY_TITLES[why]),
        el("p", {}, "On the machine where the server runs, ", el("code", {}, "slipstream open"),
          " lets a browser in by a one-time link. A restart ends older links and logins."),
        el("p", { id: "key-help" }, "Or paste an API key; ", el("code", {}, "slipstream keys create NAME"), " there makes one. It stays in this page’s memory and is forgotten on reload."),
        form)));
    if (fresh) field.focus();
  }

  /** Take the notice away, or only one of that kind. */
  clear(kind = this.#kind) {
    if (kind !== this.#kind) return;
    this.#kind = this.#about = "";
    this.#root.replaceChildren();
  }

  /** Nothing changes where the same stands already: nobody is read it twice, no half-written key is lost. */
  #show(kind, about, node) {
    if (kind === this.#kind && about === this.#about) return false;
    this.#kind = kind;
    this.#about = about;
    this.#root.replaceChildren(node);
    return true;
  }
}
