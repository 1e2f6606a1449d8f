/* The questions and answers of this tab, kept over a reload. Touches no element and asks no server. */

const KEY = "slipstream.conversation";
const MESSAGES_MAX = 200;
const CHARACTERS_MAX = 1_500_000; // browsers give a tab 5 MB, two bytes a character
const STATES = new Set(["done", "stopped", "failed", "streaming"]);

/**
 * Messages in order: `{role: "user", text}` and
 * `{role: "assistant", text, model, state, error, finish, timing}`; `state` is done, stopped, failed or streaming.
 */
export class Conversation {
  messages = [];
  model = "";
  #storage;
  #timer = 0;

  constructor(storage) {
    this.#storage = storage;
    this.#load();
    addEventListener("pagehide", () => this.#write());
  }

  /** Add a question and the answer that is to come; returns the answer. */
  ask(text, model) {
    this.messages.push({ role: "user", text });
    return this.answer(model);
  }

  /** A fresh answer to the last question. */
  answer(model) {
    const answer = { role: "assistant", text: "", model, state: "streaming", error: null, finish: "", timing: null };
    this.messages.push(answer);
    this.save();
    return answer;
  }

  /** Index of the last question, -1 where there is none. */
  lastQuestion() {
    return this.messages.findLastIndex(({ role }) => role === "user");
  }

  /** Forget everything from `index` on. */
  cut(index) {
    this.messages.length = index;
    this.save();
  }

  /** What the model is told: all questions, and the answers that hold text. */
  forModel() {
    return this.messages.filter(({ role, text }) => role === "user" || text).map(({ role, text }) => ({ role, content: text }));
  }

  /** Keep the conversation, at most every half second. */
  save() {
    this.#timer ||= setTimeout(() => this.#write(), 500);
  }

  #write() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    let kept = this.messages.slice(-MESSAGES_MAX);
    for (;;) {
      const text = JSON.stringify({ messages: kept, model: this.model });
      try {
        if (text.length <= CHARACTERS_MAX) {
          this.#storage?.setItem(KEY, text);
          return;
        }
      } catch {
        // full or switched off: try with less
      }
      if (!kept.length) return;
      kept = kept.slice(Math.ceil(kept.length / 4)); // the oldest go first
      while (kept.length && kept[0].role !== "user") kept = kept.slice(1);
    }
  }

  #load() {
    let found = null;
    try {
      found = JSON.parse(this.#storage?.getItem(KEY) ?? "null");
    } catch {
      // not ours, or unreadable: begin anew
    }
    if (!Array.isArray(found?.messages)) return;
    this.messages = found.messages.filter(isMessage);
    for (const message of this.messages) if (message.state === "streaming") message.state = "stopped";
    this.model = typeof found.model === "string" ? found.model : "";
  }
}

function isMessage(value) {
  if (typeof value?.text !== "string") return false;
  return value.role === "user" || (value.role === "assistant" && STATES.has(value.state));
}

/** The tab's storage, null where the browser refuses it. */
export function tabStorage() {
  try {
    return globalThis.sessionStorage;
  } catch {
    return null;
  }
}
