/* Watches whether the server is ready, loading or gone, and says so when it changes. Touches no element. */

import { readiness } from "./api.js";

const LOADING_WAIT_MS = 500;
const GONE_WAITS_MS = [1000, 2000, 3000, 5000];

/** Calls `changed({state, names})`; asks again by itself until the server is ready. */
export class ServerWatch {
  state = "unknown";
  #changed;
  #timer = 0;
  #missed = 0;
  #asking = null;

  constructor(changed) {
    this.#changed = changed;
    addEventListener("online", () => this.check());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.state !== "ready") this.check();
    });
  }

  /** Ask now. */
  check() {
    clearTimeout(this.#timer);
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #ask() {
    const { state, names } = await readiness();
    this.#missed = state === "gone" ? this.#missed + 1 : 0;
    this.state = state;
    if (state !== "ready") {
      const wait = state === "loading" ? LOADING_WAIT_MS : GONE_WAITS_MS[Math.min(this.#missed, GONE_WAITS_MS.length) - 1];
      this.#timer = setTimeout(() => this.check(), wait);
    }
    await this.#changed({ state, names });
  }
}
