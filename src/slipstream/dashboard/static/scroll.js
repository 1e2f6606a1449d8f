/* Keeps the newest line in sight while the reader is at the end, and only then. */

const NEAR_PIXELS = 48;

/** Follows `content` inside `scroller`; `jump` is shown while the reader is elsewhere. */
export class Follow {
  #scroller;
  #jump;
  #following = true;
  #last = 0;

  constructor(scroller, content, jump) {
    this.#scroller = scroller;
    this.#jump = jump;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    jump.addEventListener("click", () => this.toEnd());
    const grown = new ResizeObserver(() => this.#grown());
    grown.observe(content);
    grown.observe(scroller);
  }

  /** Go to the end and stay there. */
  toEnd() {
    this.#following = true;
    this.#settle();
  }

  #scrolled() {
    const { scrollTop } = this.#scroller;
    if (this.#away() <= NEAR_PIXELS) this.#following = true;
    else if (scrollTop < this.#last) this.#following = false; // growth moves the end away, but never us upwards
    this.#last = scrollTop;
    this.#show();
  }

  #grown() {
    if (this.#following) this.#settle();
    else this.#show();
  }

  #settle() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#last = this.#scroller.scrollTop;
    this.#show();
  }

  #away() {
    return this.#scroller.scrollHeight - this.#scroller.clientHeight - this.#scroller.scrollTop;
  }

  #show() {
    this.#jump.hidden = this.#following || this.#away() <= NEAR_PIXELS;
  }
}
