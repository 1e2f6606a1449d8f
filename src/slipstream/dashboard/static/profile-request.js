/* The part of the page of profiles that draws one stored request: chosen by a link, a typed id, or `#request=ID`. */

import { el, say } from "./dom.js";
import { moment, told } from "./units.js";
import { waterfallOf } from "./waterfall-of.js";

const MARK = "#request=";

/** The address that draws a request on this page. */
export function requestLink(id) {
  return MARK + encodeURIComponent(id);
}

export class StoredRequest {
  #node;
  #form;
  #field;
  #list;
  #box;
  #shown = "";

  /** `node` holds a form with one field, a list of links, and the box of the waterfall. */
  constructor(node) {
    this.#node = node;
    this.#form = node.querySelector("form");
    this.#field = node.querySelector("input");
    this.#list = node.querySelector(".slowest");
    this.#box = node.querySelector(".drawn");
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#choose(this.#field.value.trim());
    });
    addEventListener("hashchange", () => this.follow());
    document.addEventListener("click", (event) => {
      const link = event.target.closest(`a[href^="${MARK}"]`);
      if (link && link.hash === location.hash) this.follow(); // the address does not change: nobody else tells
    });
  }

  /** The slowest requests as links; a list that somebody is in stays as it is. */
  offer(slowest) {
    if (this.#list.contains(document.activeElement)) return;
    this.#list.hidden = slowest.length === 0;
    this.#list.replaceChildren("Slowest: ", ...slowest.map(({ id, at, duration_ms: took, model, outcome }) =>
      el("a", { class: "id-link", href: requestLink(id), title: `${id}, ${moment(at)}, ${model || "no model"}, ${outcome}`, "aria-label": `Request ${id}, ${told(took, "ms")}` }, told(took, "ms"))));
    this.#mark();
  }

  /** Draw what the address asks for; nothing where it asks for none. */
  async follow() {
    if (location.hash && !location.hash.startsWith(MARK)) return; // another place of this page
    const id = asked(location.hash);
    this.#shown = id;
    this.#mark();
    if (!id) {
      this.#box.replaceChildren();
      return;
    }
    this.#field.value = id;
    this.#box.replaceChildren(el("p", { class: "quiet" }, "Fetching its record …"));
    const drawn = await waterfallOf(id);
    if (this.#shown !== id) return; // another was chosen meanwhile
    this.#box.replaceChildren(drawn);
    this.#node.scrollIntoView({ block: "nearest" });
    say(drawn.querySelector(".wf-tip")?.textContent || drawn.textContent);
  }

  #choose(id) {
    if (!id) this.#field.focus();
    else if (location.hash === requestLink(id)) this.follow();
    else location.hash = requestLink(id);
  }

  #mark() {
    for (const link of this.#list.querySelectorAll("a")) {
      if (asked(link.hash) === this.#shown) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }
}

function asked(hash) {
  try {
    return decodeURIComponent(hash.slice(MARK.length)).trim();
  } catch {
    return hash.slice(MARK.length); // a lone % is no code: let the server say that it knows no such id
  }
}
