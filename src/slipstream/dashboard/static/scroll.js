/* Keeps the newest line in sight while the reader is at the end, and only then. */

const NEAR_PIXELS = 48;
const HAND_MS = 400; // so long after a wheel, a finger or a key a way upwards is the reader's
const KEYS = new Set(["ArrowUp", "PageUp", "Home", "Tab", " "]);

/** Follows `content` inside `scroller`; `jump` is shown while the reader is elsewhere. */
export class Follow {
  #scroller;
  #jump;
  #following = true;
  #last = 0;
  #drawn = new MutationObserver(() => (this.#isDrawn = true));
  #isDrawn = false; // something of the page, since #last was read
  #handMs = -Infinity;

  constructor(scroller, content, jump) {
    this.#scroller = scroller;
    this.#jump = jump;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    jump.addEventListener("click", () => this.toEnd());
    const hand = () => (this.#handMs = performance.now());
    for (const kind of ["wheel", "touchmove", "pointerdown"]) scroller.addEventListener(kind, hand, { passive: true });
    document.addEventListener("keydown", ({ key }) => KEYS.has(key) && hand(), { passive: true });
    const grown = new ResizeObserver(() => this.#grown());
    grown.observe(content);
    grown.observe(scroller);
    this.#drawn.observe(document.body, { attributes: true, characterData: true, childList: true, subtree: true });
  }

  /** Go to the end and stay there. */
  toEnd() {
    this.#following = true;
    this.#settle();
  }

  #scrolled() {
    const { scrollTop } = this.#scroller;
    if (this.#away() <= NEAR_PIXELS) this.#following = true;
    else if (scrollTop < this.#last) {
      // Growth moves the end away, but never us upwards. What is laid out smaller for a moment does: nobody's wish.
      if (!this.#isDrawn || performance.now() - this.#handMs < HAND_MS) this.#following = false;
      else if (this.#following) return this.#settle();
    }
    return this.#remember();
  }

  #grown() {
    if (this.#following) this.#settle();
    else this.#remember();
  }

  #settle() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#remember();
  }

  #remember() {
    this.#last = this.#scroller.scrollTop;
    this.#jump.hidden = this.#following || this.#away() <= NEAR_PIXELS;
    this.#drawn.takeRecords(); // of the line above
    this.#isDrawn = false;
  }

  #away() {
    return this.#scroller.scrollHeight - this.#scroller.clientHeight - this.#scroller.scrollTop;
  }
}
