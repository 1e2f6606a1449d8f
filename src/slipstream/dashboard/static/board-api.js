/* The dashboard's feed as the page uses it: layout, charts, requests, alerts, and the live stream. Touches no element. */

const PREFIX = "/_slipstream/dashboard";
const AGAIN_MS = 3000;

/** What went wrong, in the server's words where it had any. `status` 0: nobody answers. */
export class FeedError extends Error {
  constructor(message, { hint = "", status = 0 } = {}) {
    super(message);
    this.hint = hint;
    this.status = status;
  }
}

/** Tiles, charts, sections, filters. */
export const layout = () => json(PREFIX);

/** Some charts over a range of seconds since 1970, in at most `points` steps. */
export const series = (from, to, points, charts) => json(`${PREFIX}/series?from=${from.toFixed(3)}&to=${to.toFixed(3)}&points=${points}&charts=${charts.join(",")}`);

/** Recorded requests, newest first. */
export async function requests(filters) {
  const asked = new URLSearchParams(Object.entries(filters).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return (await json(`${PREFIX}/requests?${asked}`)).data;
}

/** An answer's JSON; null where the server has no such route. */
export async function optional(path) {
  try {
    return await json(path);
  } catch (error) {
    if (error instanceof FeedError && error.status === 404) return null;
    throw error;
  }
}

/** Send JSON. */
export const send = (path, body, method = "POST") =>
  json(path, { method, headers: { "Content-Type": "application/json" }, body: body === null ? undefined : JSON.stringify(body) });

async function json(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
  } catch {
    throw new FeedError("The server does not answer.", { hint: "Is it still running?" });
  }
  if (response.ok) return response.json();
  const error = (await response.json().catch(() => null))?.error ?? {};
  const message = typeof error.message === "string" ? error.message : `The server answered with status ${response.status}.`;
  const hint = String(error.hint ?? "");
  // The server repeats the hint at the end of the message, for clients that show nothing else.
  const alone = hint && message.endsWith(hint) ? message.slice(0, -hint.length).trimEnd() : message;
  throw new FeedError(alone || message, { hint: alone ? hint : "", status: response.status });
}

/**
 * The one live stream of this tab. Paused while the tab is hidden: then `resumed()` tells that something was missed.
 * `state(name)` is told "live", "paused" or "gone".
 */
export class Live {
  #source = null;
  #timer = 0;
  #frame;
  #state;
  #resumed;
  #missed = false;

  constructor({ frame, state, resumed }) {
    this.#frame = frame;
    this.#state = state;
    this.#resumed = resumed;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#pause() : this.start()));
    addEventListener("pagehide", () => this.#pause());
    addEventListener("pageshow", (event) => event.persisted && this.start());
  }

  start() {
    if (this.#source || document.hidden) return;
    clearTimeout(this.#timer);
    const source = new EventSource(`${PREFIX}/live`);
    this.#source = source;
    source.addEventListener("open", () => {
      this.#state("live");
      if (this.#missed) this.#resumed();
      this.#missed = false;
    });
    source.addEventListener("frame", (event) => this.#frame(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      if (this.#source !== source) return;
      this.#missed = true;
      this.#state("gone");
      source.close(); // its own retry ends for good after an error status
      this.#source = null;
      this.#timer = setTimeout(() => this.start(), AGAIN_MS);
    });
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
    this.#missed = true;
    this.#state("paused");
  }
}
