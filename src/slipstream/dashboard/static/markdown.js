/*
 * Markdown -> elements, drawn while it streams. Only createElement and text nodes: nothing in an answer can
 * become markup, and nothing is loaded.
 *
 * Blocks that another block has followed on a finished line never change again and are left alone; only the
 * tail is drawn anew. However the text is cut into pieces, the result is the same.
 */

import { blocks } from "./blocks.js";
import { copyButton, el } from "./dom.js";
import { highlight } from "./highlight.js";
import { inline } from "./inline.js";

/** Code above this size is coloured once, when it is complete. */
const LIVE_COLOUR_CHARACTERS = 8_000;
const COLOUR_CHARACTERS = 60_000;

/** Draws a growing text into `root`. */
export class MarkdownStream {
  #root;
  #source = "";
  #tail = []; // {raw, block, node} of the blocks that may still change

  constructor(root) {
    this.#root = root;
  }

  /** Add a piece and draw it. */
  push(text) {
    this.#source += text;
    this.#draw(false);
  }

  /** The text is complete. */
  finish() {
    this.#draw(true);
  }

  #draw(final) {
    const lines = this.#source.replaceAll("\r\n", "\n").split("\n");
    const found = blocks(lines);
    const keep = final ? found.length : lastSettled(found, lines);
    const fresh = found.map((block, index) => {
      const end = found[index + 1]?.start ?? lines.length;
      return { block, raw: lines.slice(block.start, end).join("\n"), settled: index < keep };
    });
    fresh.forEach((entry, index) => this.#place(entry, this.#tail[index]));
    for (const gone of this.#tail.slice(fresh.length)) gone.node.remove();
    this.#tail = fresh.slice(keep);
    if (keep) this.#source = final ? "" : lines.slice(found[keep].start).join("\n");
  }

  #place(entry, before) {
    const { block, raw, settled } = entry;
    if (before && before.raw === raw && !(settled && raw.length > LIVE_COLOUR_CHARACTERS)) {
      entry.node = before.node;
    } else if (before && before.block.type === "code" && block.type === "code" && before.block.language === block.language) {
      entry.node = before.node;
      fillCode(entry.node.querySelector("code"), block, settled);
    } else {
      entry.node = build(block, settled);
      if (block.type !== "code") entry.node.dir = "auto"; // Arabic and Hebrew run from right to left, code never does
      if (before) before.node.replaceWith(entry.node);
      else this.#root.append(entry.node);
    }
  }
}

/** Draw a whole text at once. */
export function markdown(text, root) {
  const stream = new MarkdownStream(root);
  stream.push(text);
  stream.finish();
}

/**
 * How many blocks can no longer change: those followed by a block whose first two lines have ended. Two,
 * because a table is known by its second line, and as a table it ends the paragraph or list above it.
 */
function lastSettled(found, lines) {
  let keep = found.length - 1;
  while (keep > 0 && found[keep].start >= lines.length - 2) keep -= 1;
  return Math.max(keep, 0);
}

function build(block, settled = true) {
  switch (block.type) {
    case "heading": return el(`h${Math.min(block.level + 2, 6)}`, { class: `size-${block.level}` }, ...nodes(block.text));
    case "code": return code(block, settled);
    case "rule": return el("hr");
    case "quote": return el("blockquote", {}, ...block.blocks.map((inner) => build(inner, settled)));
    case "list": return list(block, settled);
    case "table": return table(block);
    default: return el("p", {}, ...nodes(block.text));
  }
}

function list({ ordered, first, loose, items }, settled) {
  const node = ordered ? el("ol", { start: first === 1 ? null : first }) : el("ul");
  for (const inner of items) {
    const item = el("li");
    inner.forEach((block, index) => {
      if (block.type === "paragraph" && !loose && index === 0) item.append(...nodes(block.text));
      else item.append(build(block, settled));
    });
    node.append(item);
  }
  return node;
}

function table({ aligns, head, rows }) {
  const row = (name, cells) => el("tr", {}, ...cells.map((text, column) =>
    el(name, { class: aligns[column] ? `to-${aligns[column]}` : null, scope: name === "th" ? "col" : null }, ...nodes(text))));
  return el("div", { class: "table", role: "region", tabindex: "0", "aria-label": "Table" },
    el("table", {}, el("thead", {}, row("th", head)), el("tbody", {}, ...rows.map((cells) => row("td", cells)))));
}

function code(block, settled) {
  const text = el("code");
  fillCode(text, block, settled);
  const bar = el("div", { class: "code-bar" }, el("span", { class: "language" }, block.language.slice(0, 32) || "text"),
    copyButton("Copy code", () => text.textContent));
  return el("div", { class: "code" }, bar, el("pre", { tabindex: "0", dir: "ltr" }, text));
}

function fillCode(node, { text, language }, settled) {
  if (text.length <= (settled ? COLOUR_CHARACTERS : LIVE_COLOUR_CHARACTERS)) {
    node.replaceChildren(...highlight(text, language));
    node.normalize();
    return;
  }
  const shown = node.textContent;
  if (!settled && shown && text.startsWith(shown)) node.append(text.slice(shown.length));
  else node.textContent = text;
}

/** Nodes for one line of text: emphasis, code and links, no blocks. */
export function nodes(text) {
  return inline(text).map(node);
}

function node({ type, text, address, children }) {
  switch (type) {
    case "text": return document.createTextNode(text);
    case "code": return el("code", {}, text);
    case "break": return el("br");
    case "link": return el("a", { href: address, rel: "noopener noreferrer", target: "_blank", title: address }, ...children.map(node));
    default: return el(type, {}, ...children.map(node));
  }
}
