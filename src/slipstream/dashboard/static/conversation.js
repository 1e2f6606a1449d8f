/* The questions and answers of this tab, kept over a reload. Touches no element and asks no server. */

const KEY = "slipstream.conversation";
const MESSAGES_MAX = 200;
const CHARACTERS_MAX = 1_500_000; // browsers give a tab 5 MB, two bytes a character
const STATES = new Set(["done", "stopped", "failed", "streaming"]);

/**
 * Messages in order: `{role: "user", text}` and
 * `{role: "assistant", text, model, state, error, finish, timing}`; `state` is done, stopped, failed or streaming.
 * After each question stands its one answer.
 */
export class Conversation {
  messages = [];
  model = "";
  draft = ""; // what stands in the composer
  showsSteps = false; // whether the latest answer's waterfall is open
  #storage;
  #timer = 0;

  constructor(storage) {
    this.#storage = storage;
    this.#load();
    addEventListener("pagehide", () => this.#write());
  }

  /** Add a question and the answer that is to come; returns the answer. */
  ask(text, model) {
    this.messages.push({ role: "user", text }, fresh(model));
    this.save();
    return this.messages.at(-1);
  }

  /** A fresh answer in the place of `answer`. */
  renew(answer, model) {
    const renewed = fresh(model);
    this.messages[this.messages.indexOf(answer)] = renewed;
    this.save();
    return renewed;
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

  /** What the model is told for `answer`: the turns before it that were answered, and its own question. */
  forModel(answer) {
    const told = [];
    for (let at = 0; at < this.messages.length; at += 2) {
      const [question, reply] = this.messages.slice(at, at + 2);
      if (reply === answer) return [...told, { role: "user", content: question.text }];
      if (reply.text) told.push({ role: "user", content: question.text }, { role: "assistant", content: reply.text });
    }
    return told;
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
      const text = JSON.stringify({ messages: kept, model: this.model, draft: this.draft, showsSteps: this.showsSteps });
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
    this.messages = turns(found.messages.filter(isMessage));
    for (const message of this.messages) {
      if (message.state === "streaming") message.state = "stopped";
      if (!Array.isArray(message.timing?.steps)) message.timing = null;
    }
    this.model = typeof found.model === "string" ? found.model : "";
    this.draft = typeof found.draft === "string" ? found.draft : "";
    this.showsSteps = found.showsSteps === true;
  }
}

/** Questions with their answers; what stands alone is left out. */
function turns(messages) {
  const isTurn = (at) => messages[at]?.role === "user" && messages[at + 1]?.role === "assistant";
  return messages.flatMap((_, at) => (isTurn(at) ? messages.slice(at, at + 2) : []));
}

/** An answer that is to come. */
function fresh(model) {
  return { role: "assistant", text: "", model, state: "streaming", error: null, finish: "", timing: null };
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
