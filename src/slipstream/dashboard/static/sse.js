/* Server-sent events out of a stream of text, after the HTML standard's rules. Knows nothing of their content. */

const EVENT_CHARACTERS_MAX = 4 * 1024 * 1024;

/** Feeds on text in any pieces; `push` returns the events that are complete. */
export class EventParser {
  #rest = "";
  #type = "";
  #data = [];
  #size = 0;

  /** @returns {{type: string, data: string}[]} Throws RangeError where one event outgrows all bounds. */
  push(text) {
    const events = [];
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line.endsWith("\r") ? line.slice(0, -1) : line, events);
    if (this.#rest.length + this.#size > EVENT_CHARACTERS_MAX) throw new RangeError("an event is too large");
    return events;
  }

  #line(line, events) {
    if (line === "") {
      if (this.#data.length) events.push({ type: this.#type || "message", data: this.#data.join("\n") });
      this.#type = "";
      this.#data = [];
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") {
      this.#data.push(value);
      this.#size += value.length;
    } else if (field === "event") {
      this.#type = value;
    }
  }
}
