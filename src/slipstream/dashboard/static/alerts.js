/* Alerts: what fires, the rules, what happened, silences; and the marks that charts draw. */

import * as api from "./board-api.js";
import { el, say } from "./dom.js";
import { moment, span } from "./units.js";

const PREFIX = "/_slipstream/alerts";
const SILENCES = [["1 hour", 3600], ["8 hours", 28_800], ["1 day", 86_400], ["1 week", 604_800]];
const ORDER = { firing: 0, pending: 1, resolved: 2, inactive: 3 };
const EVENTS = 30;
const RULE_COLUMNS = ["Rule", "State", "Value", "Condition", "Silence"];

export class Alerts {
  #changed;
  #isOn = false;
  #known = ""; // the rules as they were drawn: what did not change is left alone

  /** `changed()` is told when something fired or ended, so that marks may be asked for again. */
  constructor({ changed }) {
    this.#changed = changed;
    this.rules = el("tbody", {});
    this.events = el("ol", { class: "events" });
    this.marks = el("ol", { class: "events" });
    this.note = el("p", { class: "table-note" });
    this.trouble = el("p", { class: "table-note is-bad" });
    const head = el("tr", {}, ...RULE_COLUMNS.map((name) => el("th", { scope: "col" }, name)));
    this.box = el("div", { class: "table-box" }, el("table", {}, el("caption", { class: "unseen" }, "Rules"), el("thead", {}, head), this.rules));
    this.node = el("section", { class: "part", id: "alerts", "aria-labelledby": "alerts-title" },
      el("h2", { id: "alerts-title" }, "Alerts"), this.trouble, this.box, this.note,
      el("div", { class: "event-lists" },
        el("div", {}, el("h3", {}, "What happened"), this.events),
        el("div", {}, el("h3", {}, "Marks"), this.marks, this.#markForm())));
  }

  /** Rules and history are told by this server. */
  begin() {
    this.#isOn = true;
  }

  /** The marks of a range, alerts that began to fire among them: `[{at, kind, text}]`, the oldest first. */
  async load(from, to) {
    if (!this.#isOn) return [];
    const [marks, events] = await Promise.all([api.optional(`/_slipstream/marks?from=${from}&to=${to}`), api.optional(`${PREFIX}/history?limit=${EVENTS}`)]);
    this.#showEvents(events?.data ?? []);
    const noted = (marks?.data ?? []).map(({ wall_ns: at, kind, text, author }) => ({ at: at / 1e9, kind, text: author ? `${text} (${author})` : text }));
    const fired = (events?.data ?? []).filter(({ phase, wall_ns: at }) => phase === "firing" && at / 1e9 >= from && at / 1e9 <= to)
      .map(({ wall_ns: at, name }) => ({ at: at / 1e9, kind: "alert", text: name }));
    this.marks.replaceChildren(...noted.slice(-EVENTS).reverse().map(({ at, kind, text }) => el("li", {}, el("time", {}, moment(at)), el("span", { class: "event-kind" }, kind), text)));
    if (!noted.length) this.marks.append(el("li", { class: "none" }, "None in this range. Deploys: slipstream mark \"what changed\"."));
    return [...noted, ...fired].sort((a, b) => a.at - b.at);
  }

  /** Ask how the rules stand. */
  async refresh() {
    if (!this.#isOn) return;
    let found;
    try {
      found = await api.optional(PREFIX);
    } catch (error) {
      if (!(error instanceof api.FeedError)) throw error;
      return; // the page's notice tells of it
    }
    if (!found) return;
    const { rules, silences, dead, failure } = found;
    this.trouble.textContent = [failure, dead ? `${dead} messages could not be delivered: slipstream alerts list.` : ""].filter(Boolean).join(" ");
    const known = JSON.stringify([rules, silences]);
    if (known === this.#known || this.rules.contains(document.activeElement)) return;
    const phases = (text) => (text ? JSON.parse(text)[0].map(({ owner, name, phase }) => `${owner}/${name}/${phase}`).join() : "");
    const moved = this.#known && phases(this.#known) !== phases(known);
    this.#known = known;
    const sorted = [...rules].sort((a, b) => (ORDER[a.phase] ?? 9) - (ORDER[b.phase] ?? 9) || a.name.localeCompare(b.name));
    this.rules.replaceChildren(...sorted.map((rule) => this.#rule(rule, silences)));
    this.box.hidden = rules.length === 0;
    this.note.textContent = rules.length ? "" : "No rule is watched. Add one to the settings under [alerts.rules], or from a script: PerformanceAlerts().add_alert(\"Slow\", \"response_time > 5 s\").";
    if (moved) this.#changed();
  }

  #rule(rule, silences) {
    const kind = rule.error ? "warn" : { firing: rule.severity === "info" ? "warn" : "bad", pending: "warn" }[rule.phase] ?? (rule.has_data ? "good" : "dull");
    const since = rule.started_wall_ns ? ` since ${moment(rule.started_wall_ns / 1e9)}` : "";
    const isQuiet = !["firing", "pending"].includes(rule.phase);
    const state = rule.error ? "cannot be asked" : isQuiet ? (rule.has_data ? "quiet" : "no data") : rule.phase + since;
    return el("tr", {}, el("th", { scope: "row" }, rule.name, el("span", { class: "by" }, ` ${rule.severity} · ${rule.owner}`)),
      el("td", {}, el("span", { class: `outcome is-${kind}` }, state)), el("td", {}, rule.value || "–"),
      el("td", { class: "rule-condition" }, rule.error || rule.expanded), el("td", {}, this.#silence(rule, silences)));
  }

  #silence(rule, silences) {
    const now = Date.now() * 1e6;
    const own = silences.find(({ name, owner, expires_wall_ns: ends }) => name === rule.name && (!owner || owner === rule.owner) && ends > now);
    if (own) {
      const left = span((own.expires_wall_ns - now) / 1e9);
      return el("button", { class: "small-button", type: "button", onclick: () => this.#act(`${PREFIX}/silences/${encodeURIComponent(own.id)}`, null, "DELETE", `${rule.name} is heard again.`) }, `Silent for ${left}: end`);
    }
    if (rule.silenced) return "silenced";
    const choice = el("select", { class: "small-button", "aria-label": `Silence ${rule.name}`, onchange: () => choice.value && this.#act(`${PREFIX}/silences`,
      { name: rule.name, owner: rule.owner, seconds: Number(choice.value), author: "dashboard" }, "POST", `${rule.name} is silent.`) },
    el("option", { value: "" }, "Silence …"), ...SILENCES.map(([text, seconds]) => el("option", { value: String(seconds) }, text)));
    return choice;
  }

  async #act(path, body, method, words) {
    try {
      await api.send(path, body, method);
      say(words);
      document.activeElement?.blur();
    } catch (error) {
      if (!(error instanceof api.FeedError)) throw error;
      this.trouble.textContent = `${error.message} ${error.hint}`;
      return;
    }
    await this.refresh();
  }

  #markForm() {
    const text = el("input", { type: "text", maxlength: "200", placeholder: "What changed just now?", "aria-label": "Mark this moment", required: true });
    return el("form", { class: "mark-form", onsubmit: async (event) => {
      event.preventDefault();
      await this.#act("/_slipstream/marks", { text: text.value, kind: "note", author: "dashboard" }, "POST", "Marked.");
      text.value = "";
      this.#changed();
    } }, text, el("button", { class: "small-button" }, "Mark"));
  }

  #showEvents(events) {
    this.events.replaceChildren(...events.map(({ wall_ns: at, name, severity, phase, value }) => {
      const kind = phase === "firing" ? (severity === "info" ? "warn" : "bad") : "good";
      return el("li", {}, el("time", {}, moment(at / 1e9)), el("span", { class: `outcome is-${kind}` }, phase === "firing" ? "fires" : phase), name, value ? el("span", { class: "by" }, ` ${value}`) : "");
    }));
    if (!events.length) this.events.append(el("li", { class: "none" }, "Nothing has fired yet."));
  }
}
