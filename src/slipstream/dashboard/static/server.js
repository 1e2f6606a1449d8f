/* Watches whether the server is there and its models are ready, and says so when it is asked. Touches no element. */

import { readiness } from "./api.js";

const LOADING_WAIT_MS = 500;
const FAILED_WAIT_MS = 3000;
const GONE_WAITS_MS = [1000, 2000, 3000, 5000];

/** Calls `changed()` after every answer; asks again by itself until the server is there and all models are ready. */
export class ServerWatch {
  isGone = false;
  loading = []; // names of the models that load
  failed = []; // names of the models that do not start; the server tries them again
  #changed;
  #timer = 0;
  #missed = 0;
  #asking = null;
  #wait = 0; // until it asks again; 0 = it need not

  constructor(changed) {
    this.#changed = changed;
    addEventListener("online", () => this.check());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#wait) this.check();
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
    Object.assign(this, await readiness());
    this.#missed = this.isGone ? this.#missed + 1 : 0;
    this.#wait = this.#nextWait();
    if (this.#wait) this.#timer = setTimeout(() => this.check(), this.#wait);
    await this.#changed();
  }

  #nextWait() {
    if (this.isGone) return GONE_WAITS_MS[Math.min(this.#missed, GONE_WAITS_MS.length) - 1];
    if (this.loading.length) return LOADING_WAIT_MS;
    return this.failed.length ? FAILED_WAIT_MS : 0;
  }
}
