/* The recorded requests: filters, a table, and for each of them where its time went. */

import * as api from "./board-api.js";
import { FILTERS } from "./board-url.js";
import { el, icon } from "./dom.js";
import { count, duration, rate } from "./format.js";
import { fromRecord, tokensPerSecond } from "./timing.js";
import { moment } from "./units.js";
import { strip, waterfall } from "./waterfall.js";

const PAGE = 20;
const ROWS_MAX = 500;
const OUTCOMES = ["served", "hit", "shared", "refused", "failed", "aborted"];
const COLUMNS = [["Time", ""], ["Model", ""], ["Outcome", ""], ["Took", "num"], ["Steps", "wide"], ["First token", "num wide"], ["Tokens", "num"], ["Speed", "num wide"], ["Cost", "num wide"]];

export class Requests {
  #filters = {};
  #fields = {};
  #rows = new Map(); // id -> {node, record}
  #open = new Set(); // ids whose steps are shown
  #asking = false;
  #again = false;
  #changed;
  #range;

  /** `changed(filters)` is told when somebody filters; `range()` gives the page's `{from, to}` or null while live. */
  constructor({ changed, range }) {
    this.#changed = changed;
    this.#range = range;
    this.body = el("tbody", {});
    this.note = el("p", { class: "table-note" });
    this.more = el("button", { class: "plain-button", type: "button", hidden: true, onclick: () => this.#older() }, "Older");
    const head = el("tr", {}, ...COLUMNS.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)));
    this.box = el("div", { class: "table-box" }, el("table", { class: "requests" }, el("caption", { class: "unseen" }, "Recorded requests, newest first"), el("thead", {}, head), this.body));
    this.form = el("form", { class: "filters", role: "search", "aria-label": "Filter the requests", onsubmit: (event) => event.preventDefault() });
    this.node = el("section", { class: "part", id: "requests", "aria-labelledby": "requests-title" },
      el("div", { class: "part-head" }, el("h2", { id: "requests-title" }, "Requests"), this.form),
      this.box,
      this.note, this.more);
  }

  /** Build the filters from what there is, and set them as the address says. */
  lay({ models, routes, upstreams }, filters) {
    this.#filters = { ...filters };
    const choice = (name, label, values) => {
      const known = filters[name] && !values.includes(filters[name]) ? [filters[name], ...values] : values;
      const field = el("select", { "aria-label": label, onchange: () => this.#filter(name, field.value) },
        el("option", { value: "" }, label), ...known.map((value) => el("option", { value, selected: value === filters[name] }, value)));
      this.#fields[name] = field;
      return field;
    };
    const least = el("input", { type: "number", min: "0", step: "any", placeholder: "At least … ms", "aria-label": "Took at least, in milliseconds", value: filters.min_ms ?? null,
      onchange: () => this.#filter("min_ms", least.value) });
    this.#fields.min_ms = least;
    this.span = el("button", { class: "chip-button", type: "button", hidden: true, onclick: () => this.focusOn({ since: null, until: null }) });
    this.clear = el("button", { class: "chip-button", type: "button", hidden: true, onclick: () => this.focusOn({ since: null, until: null, ...Object.fromEntries(FILTERS.map((name) => [name, ""])) }) }, "Clear");
    this.form.replaceChildren(choice("model", "Any model", models), choice("outcome", "Any outcome", OUTCOMES), choice("route", "Any route", routes),
      ...(upstreams.length > 1 ? [choice("upstream", "Any upstream", upstreams)] : []), least, this.span, this.clear);
    this.#show();
  }

  /** Filter by these as well, and look. */
  focusOn(filters) {
    Object.assign(this.#filters, filters);
    for (const [name, field] of Object.entries(this.#fields)) {
      const value = String(this.#filters[name] ?? "");
      if (value && field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) field.append(el("option", { value }, value));
      field.value = value;
    }
    this.#changed({ ...this.#filters });
    this.#show();
    this.#open.clear();
    return this.refresh();
  }

  /** The cursor into the first filter. */
  focus() {
    this.#fields.model?.focus();
  }

  /** Whether a new look would move what somebody reads. */
  get isRead() {
    return this.#open.size > 0 || this.#rows.size > PAGE || this.box.matches(":hover") || this.box.contains(document.activeElement);
  }

  /** Ask for the newest that match. */
  async refresh() {
    if (this.#asking) {
      this.#again = true;
      return;
    }
    this.#asking = true;
    try {
      this.#fill(await api.requests({ ...this.#asked(), limit: PAGE }));
    } catch (error) {
      if (!(error instanceof api.FeedError)) throw error;
      this.note.textContent = `${error.message} ${error.hint}`;
    } finally {
      this.#asking = false;
    }
    if (this.#again) {
      this.#again = false;
      await this.refresh();
    }
  }

  async #older() {
    const last = [...this.#rows.keys()].at(-1);
    const found = await api.requests({ ...this.#asked(), before: last, limit: PAGE });
    for (const record of found) this.body.append(...this.#row(record));
    this.more.hidden = found.length < PAGE || this.#rows.size >= ROWS_MAX;
  }

  #asked() {
    const { since, until, ...filters } = this.#filters;
    const range = since ? { from: since, to: until } : this.#range() ?? {};
    return { ...filters, ...range };
  }

  #filter(name, value) {
    this.focusOn({ [name]: value });
  }

  #show() {
    const { since, until } = this.#filters;
    this.span.hidden = !since;
    if (since) this.span.replaceChildren(`${moment(since)} – ${moment(until)} `, el("span", { "aria-hidden": "true" }, "×"), el("span", { class: "unseen" }, "Any time"));
    this.clear.hidden = !FILTERS.some((name) => this.#filters[name]) && !since;
  }

  #fill(records) {
    const kept = new Map(this.#rows);
    this.#rows.clear();
    const nodes = records.flatMap((record) => {
      const known = kept.get(record.id);
      if (!known) return this.#row(record);
      this.#rows.set(record.id, known);
      return known.nodes;
    });
    this.body.replaceChildren(...nodes);
    this.more.hidden = records.length < PAGE;
    this.note.textContent = records.length ? "" : this.#filters.since || FILTERS.some((name) => this.#filters[name])
      ? "No recorded request matches these filters. Clear them, or choose another time."
      : "No request is recorded yet. Ask something on the chat page, or point a client at this server’s /v1.";
  }

  #row(record) {
    const timing = fromRecord(record);
    const speed = tokensPerSecond(timing);
    const toggle = el("button", { class: "row-toggle", type: "button", "aria-expanded": "false", "aria-label": `Steps of ${record.id}`, onclick: () => this.#toggle(record.id) },
      icon("chevron"), moment((record.arrived_wall_ns ?? 0) / 1e9));
    const cells = [
      toggle,
      el("span", { class: "cut", title: record.model || record.model_asked || "" }, record.model || record.model_asked || "–"),
      outcome(record),
      duration(timing.duration_ns),
      strip(timing),
      timing.first_token_ns === null ? "–" : duration(timing.first_token_ns),
      tokens(timing),
      speed === null ? "–" : rate(speed, "tok"),
      record.cost === null || record.cost === undefined ? "–" : `$${Number(record.cost.toPrecision(3))}`,
    ];
    const node = el("tr", { class: `row row-${record.outcome}`, onclick: (event) => event.target.closest("button, a") || this.#toggle(record.id) },
      ...cells.map((cell, at) => el("td", { class: COLUMNS[at][1] }, cell)));
    this.#rows.set(record.id, { nodes: [node], node, toggle, record, timing });
    return [node];
  }

  #toggle(id) {
    const row = this.#rows.get(id);
    const isOpen = row.nodes.length === 1;
    if (isOpen) {
      const { record, timing } = row;
      const facts = el("p", { class: "row-facts" }, [record.route, record.stream ? "streamed" : "whole", record.key_id && `key ${record.key_id}`,
        record.error_type && `${record.error_type} ${record.error_code ?? ""}`, record.queue_wait_ns > 1e6 && `waited ${duration(record.queue_wait_ns)}`,
        record.in_flight && `${record.in_flight} in flight at arrival`].filter(Boolean).join(" · "));
      const detail = el("tr", { class: "row-detail" }, el("td", { colspan: String(COLUMNS.length) }, waterfall(timing), facts));
      row.node.after(detail);
      row.nodes.push(detail);
      this.#open.add(id);
    } else {
      row.nodes.pop().remove();
      this.#open.delete(id);
    }
    row.toggle.setAttribute("aria-expanded", String(isOpen));
    row.node.classList.toggle("is-open", isOpen);
  }
}

function outcome({ outcome: how = "aborted", status }) {
  const kind = { served: "good", hit: "good", shared: "good", refused: "warn", failed: "bad", aborted: "dull" }[how] ?? "dull";
  return el("span", { class: `outcome is-${kind}` }, how, status && status !== 200 ? ` ${status}` : "");
}

function tokens({ prompt_tokens: read, output_tokens: written, tokens_estimated: isGuess }) {
  if (written === null && read === null) return "–";
  const say = (value) => (value === null ? "?" : value.toLocaleString("en"));
  return el("span", { title: `${count(read ?? 0, "token")} read, ${count(written ?? 0, "token")} written${isGuess ? ", estimated" : ""}` }, `${say(read)} → ${isGuess ? "~" : ""}${say(written)}`);
}
