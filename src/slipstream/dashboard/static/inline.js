/*
 * Text inside a block -> plain nodes: emphasis, code, links, line breaks. Builds no elements and knows no blocks.
 *
 * One pass from left to right. Open marks wait on a stack of at most DEPTH frames, code fences are found by a
 * table made once, so the time is linear in the text whatever it holds.
 */

const DEPTH = 32;
const SPECIAL = /[\\`*_~[\]<&\nh!]/g;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", "#39": "'", "#x27": "'" };
const PROTOCOLS = new Set(["http:", "https:", "mailto:"]);
const LINK_CHARACTERS_MAX = 4096;
const PARENTHESES_MAX = 32;

/** The address where a link may lead, null for every other scheme, relative ones included. */
export function safeAddress(text) {
  if (text.length > LINK_CHARACTERS_MAX) return null;
  try {
    const url = new URL(text);
    return PROTOCOLS.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/**
 * Nodes of a text: `{type: "text" | "code", text}`, `{type: "break"}`, `{type: "em" | "strong" | "del", children}`,
 * `{type: "link", address, children}`.
 */
export function inline(text) {
  return new Scan(text).run();
}

class Scan {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.frames = [{ mark: "", children: [] }];
    this.fences = null;
  }

  run() {
    const { text } = this;
    while (this.at < text.length) {
      SPECIAL.lastIndex = this.at;
      const next = SPECIAL.exec(text)?.index ?? text.length;
      if (next > this.at) this.emit(text.slice(this.at, next));
      this.at = next;
      if (next < text.length) this.special(text[next]);
    }
    while (this.frames.length > 1) this.abandonTop();
    return this.frames[0].children;
  }

  special(character) {
    switch (character) {
      case "\\": return this.escape();
      case "`": return this.code();
      case "*": case "_": case "~": return this.emphasis(character);
      case "[": return this.open("[");
      case "]": return this.link();
      case "<": return this.angle();
      case "&": return this.entity();
      case "\n": return this.lineBreak();
      case "!": return this.image();
      default: return this.bareAddress();
    }
  }

  get top() {
    return this.frames[this.frames.length - 1];
  }

  emit(text) {
    const { children } = this.top;
    const last = children[children.length - 1];
    if (last?.type === "text") last.text += text;
    else children.push({ type: "text", text });
  }

  literal(length = 1) {
    this.emit(this.text.slice(this.at, this.at + length));
    this.at += length;
  }

  escape() {
    const next = this.text[this.at + 1] ?? "";
    if (next === "\n") {
      this.at += 1; // the newline breaks the line anyway
    } else if (/[!-/:-@[-`{-~]/.test(next)) {
      this.emit(next);
      this.at += 2;
    } else {
      this.literal();
    }
  }

  lineBreak() {
    this.top.children.push({ type: "break" });
    this.at += 1;
    while (this.text[this.at] === " ") this.at += 1;
  }

  code() {
    const length = runLength(this.text, this.at, "`");
    const start = this.at + length;
    const close = this.closingFence(length, start);
    if (close < 0) return this.literal(length);
    let inner = this.text.slice(start, close).replaceAll("\n", " ");
    if (inner.startsWith(" ") && inner.endsWith(" ") && inner.trim()) inner = inner.slice(1, -1);
    this.top.children.push({ type: "code", text: inner });
    this.at = close + length;
  }

  /** The next run of exactly `length` backticks at or after `start`; each run is looked at once per text. */
  closingFence(length, start) {
    if (!this.fences) {
      this.fences = new Map();
      for (const { 0: run, index } of this.text.matchAll(/`+/g)) {
        if (!this.fences.has(run.length)) this.fences.set(run.length, { starts: [], next: 0 });
        this.fences.get(run.length).starts.push(index);
      }
    }
    const same = this.fences.get(length);
    if (!same) return -1;
    while (same.next < same.starts.length && same.starts[same.next] < start) same.next += 1;
    return same.starts[same.next] ?? -1;
  }

  emphasis(character) {
    const length = runLength(this.text, this.at, character);
    const before = this.text[this.at - 1] ?? " ";
    const after = this.text[this.at + length] ?? " ";
    let { opens, closes } = flanks(before, after);
    if (character === "_") {
      const both = opens && closes;
      opens = opens && (!both || PUNCTUATION.test(before));
      closes = closes && (!both || PUNCTUATION.test(after));
    }
    if (length > 3 || (character === "~" && length !== 2)) return this.literal(length);
    let left = length;
    while (closes && left > 0) {
      const found = this.find((frame) => frame.mark[0] === character && frame.mark.length <= left);
      if (found < 0) break;
      const { mark } = this.frames[found];
      if (!this.frames[found].children.length && this.frames.length === found + 1) break; // nothing in between
      this.close(found, (children) => ({ type: character === "~" ? "del" : mark.length === 2 ? "strong" : "em", children }));
      left -= mark.length;
      this.at += mark.length;
    }
    if (left && opens) {
      if (left >= 2) this.open(character.repeat(2));
      if (left % 2) this.open(character);
    } else if (left) {
      this.literal(left);
    }
  }

  open(mark) {
    if (this.frames.length > DEPTH) this.abandonOldest();
    this.frames.push({ mark, children: [] });
    this.at += mark.length;
  }

  find(test) {
    for (let index = this.frames.length - 1; index > 0; index -= 1) if (test(this.frames[index])) return index;
    return -1;
  }

  close(index, make) {
    while (this.frames.length > index + 1) this.abandonTop();
    const { children } = this.frames.pop();
    this.top.children.push(make(children));
  }

  abandonTop() {
    const { mark, children } = this.frames.pop();
    this.emit(mark);
    adopt(this.top.children, children);
  }

  abandonOldest() {
    const [{ mark, children }] = this.frames.splice(1, 1);
    adopt(this.frames[0].children, [{ type: "text", text: mark }]);
    adopt(this.frames[0].children, children);
  }

  link() {
    const index = this.find((frame) => frame.mark === "[");
    if (index < 0) return this.literal();
    const target = this.text[this.at + 1] === "(" ? destination(this.text, this.at + 2) : null;
    const address = target && safeAddress(target.address);
    if (!address) {
      if (index === this.frames.length - 1) this.abandonTop(); // this bracket is answered
      return this.literal();
    }
    this.close(index, (children) => ({ type: "link", address, children: withoutLinks(children) }));
    this.at = target.end;
    return undefined;
  }

  /** An image is not loaded: its text becomes a link to it. */
  image() {
    if (this.text[this.at + 1] === "[") this.at += 1;
    else this.literal();
  }

  angle() {
    const { text, at } = this;
    const lineBreak = /^<br ?\/?>/i.exec(text.slice(at, at + 6));
    if (lineBreak) {
      this.top.children.push({ type: "break" });
      this.at += lineBreak[0].length;
      return;
    }
    const found = /^<((?:https?:\/\/|mailto:)[^\s<>]{1,2048})>/i.exec(text.slice(at, at + 2060));
    const address = found && safeAddress(found[1]);
    if (!address) return void this.literal();
    this.top.children.push({ type: "link", address, children: [{ type: "text", text: found[1].replace(/^mailto:/i, "") }] });
    this.at += found[0].length;
  }

  entity() {
    const found = /^&(#?\w{1,6});/.exec(this.text.slice(this.at, this.at + 9));
    const meant = found && ENTITIES[found[1].toLowerCase()];
    if (!meant) return void this.literal();
    this.emit(meant);
    this.at += found[0].length;
  }

  bareAddress() {
    const { text, at } = this;
    const begins = text.startsWith("https://", at) || text.startsWith("http://", at);
    if (!begins || /\w/.test(text[at - 1] ?? " ") || this.find((frame) => frame.mark === "[") > 0) return this.literal();
    ADDRESS.lastIndex = at;
    const shown = withoutTail(ADDRESS.exec(text)[0]);
    const address = safeAddress(shown);
    if (!address) return this.literal(shown.length || 1);
    this.top.children.push({ type: "link", address, children: [{ type: "text", text: shown }] });
    this.at += shown.length;
    return undefined;
  }
}

const ADDRESS = /[^\s<>"`]+/y;

function runLength(text, at, character) {
  let end = at;
  while (text[end] === character) end += 1;
  return end - at;
}

function flanks(before, after) {
  const spaceBefore = /\s/.test(before);
  const spaceAfter = /\s/.test(after);
  const markBefore = PUNCTUATION.test(before);
  const markAfter = PUNCTUATION.test(after);
  return {
    opens: !spaceAfter && (!markAfter || spaceBefore || markBefore),
    closes: !spaceBefore && (!markBefore || spaceAfter || markAfter),
  };
}

/** Moves nodes over one at a time (a spread of 100,000 arguments overflows the stack), joining texts. */
function adopt(children, more) {
  for (const node of more) {
    const last = children[children.length - 1];
    if (node.type === "text" && last?.type === "text") last.text += node.text;
    else children.push(node);
  }
}

/** `url)`, `<url>)` or `url "title")` after the opening parenthesis; null where it is none. */
function destination(text, start) {
  let open = 1;
  let end = start;
  for (; end < text.length && end - start <= LINK_CHARACTERS_MAX; end += 1) {
    const character = text[end];
    if (character === "\n" || character === "[") return null;
    if (character === "(" && (open += 1) > PARENTHESES_MAX) return null;
    if (character === ")" && (open -= 1) === 0) break;
  }
  if (open !== 0 || text[end] !== ")") return null;
  const inner = text.slice(start, end).trim();
  const bare = inner.startsWith("<") ? inner.slice(1, inner.indexOf(">")) : inner.split(/\s/, 1)[0];
  return { address: bare, end: end + 1 };
}

function withoutLinks(children) {
  const flat = [];
  for (const node of children) {
    if (node.type === "link") adopt(flat, node.children);
    else flat.push(node.children ? { ...node, children: withoutLinks(node.children) } : node);
  }
  return flat;
}

/** An address without the punctuation of the sentence around it. */
function withoutTail(address) {
  let end = address.length;
  let surplus = 0;
  for (const character of address) surplus += character === ")" ? 1 : character === "(" ? -1 : 0;
  while (end > 0) {
    const last = address[end - 1];
    if (last === ")" && surplus > 0) surplus -= 1;
    else if (!".,;:!?'*_~]".includes(last)) break;
    end -= 1;
  }
  return address.slice(0, end);
}
