/*
 * Lines -> blocks: paragraphs, headings, fenced code, lists, quotes, tables, rules. Builds no elements.
 *
 * Every block knows the line where it starts, and no later line changes a block that another one has
 * followed: that is what lets a stream be drawn piece by piece. Nesting ends at DEPTH, so the time is linear.
 */

const DEPTH = 8;
const COLUMNS_MAX = 64;
const BLANKS_MAX = 1000;
const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t](.*))?$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:([ \t]+)(.*))?$/;
const QUOTE = /^ {0,3}>/;

/**
 * The blocks of `lines`: `{type, start, …}` with
 * paragraph `text` · heading `level, text` · code `language, text, closed` · rule ·
 * quote `blocks` · list `ordered, first, loose, items: blocks[]` · table `aligns, head, rows`.
 */
export function blocks(lines, depth = 0) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      at += 1;
      continue;
    }
    const { block, next } = one(lines, at, depth);
    block.start = at;
    found.push(block);
    at = Math.max(next, at + 1);
  }
  return found;
}

function one(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line) && opensFence(line)) return code(lines, at);
  const heading = HEADING.exec(line);
  if (heading) return { block: { type: "heading", level: heading[1].length, text: headingText(heading[2]) }, next: at + 1 };
  if (isRule(line)) return { block: { type: "rule" }, next: at + 1 };
  if (depth < DEPTH) {
    if (QUOTE.test(line)) return quote(lines, at, depth);
    if (ITEM.test(line)) return list(lines, at, depth);
  }
  if (startsTable(lines, at)) return table(lines, at);
  return paragraph(lines, at, depth);
}

function paragraph(lines, at, depth) {
  let next = at + 1;
  while (next < lines.length && !isBlank(lines[next]) && !interrupts(lines, next, depth)) next += 1;
  const text = lines.slice(at, next).map((line) => line.trim()).join("\n");
  return { block: { type: "paragraph", text }, next };
}

/** Whether a line ends the paragraph above it. A number other than 1 does not: "… in\n1998. That was". */
function interrupts(lines, at, depth) {
  const line = lines[at];
  if ((FENCE.test(line) && opensFence(line)) || HEADING.test(line) || isRule(line)) return true;
  if (depth < DEPTH) {
    if (QUOTE.test(line)) return true;
    const item = ITEM.exec(line);
    if (item?.[4] && (!/\d/.test(item[2]) || /^1\D/.test(item[2]))) return true;
  }
  return startsTable(lines, at);
}

function opensFence(line) {
  const [, , fence, info] = FENCE.exec(line);
  return fence[0] === "~" || !info.includes("`");
}

function code(lines, at) {
  const [, indent, fence, info] = FENCE.exec(lines[at]);
  const language = info.trim().split(/\s/, 1)[0];
  const body = [];
  let next = at + 1;
  let closed = false;
  while (next < lines.length && !closed) {
    const line = lines[next];
    closed = endsFence(line, fence);
    if (!closed) body.push(dedent(line, indent.length));
    next += 1;
  }
  return { block: { type: "code", language, text: body.join("\n"), closed }, next };
}

function endsFence(line, fence) {
  const mark = line.trim();
  return mark.length >= fence.length && line.length - line.trimStart().length < 4 && allOf(mark, fence[0]);
}

function headingText(rest = "") {
  let text = rest.trim();
  let end = text.length;
  while (text[end - 1] === "#") end -= 1;
  if (end < text.length && (end === 0 || /\s/.test(text[end - 1]))) text = text.slice(0, end).trim();
  return text;
}

function isRule(line) {
  if (indentOf(line) > 3) return false;
  const mark = line.replace(/[ \t]/g, "");
  return mark.length >= 3 && "-*_".includes(mark[0]) && allOf(mark, mark[0]);
}

function quote(lines, at, depth) {
  const inner = [];
  let next = at;
  while (next < lines.length) {
    const line = lines[next];
    if (QUOTE.test(line)) inner.push(line.replace(/^ {0,3}> ?/, ""));
    else if (!isBlank(line) && !isBlank(inner.at(-1)) && !interrupts(lines, next, depth)) inner.push(line);
    else break;
    next += 1;
  }
  return { block: { type: "quote", blocks: blocks(inner, depth + 1) }, next };
}

/** A list is kinder than the standard: two columns of indent make a child, also below "1. ". */
function list(lines, at, depth) {
  const kind = kindOf(lines[at]);
  const inner = ITEM.exec(lines[at])[1].length + 2; // from this column on, a line belongs to an item
  const items = [];
  let loose = false;
  let next = at;
  let end = at;
  let column = inner;
  let blank = 0;
  while (next < lines.length) {
    const line = lines[next];
    const item = isRule(line) ? null : ITEM.exec(line);
    if (isBlank(line)) {
      blank += 1;
    } else {
      const sibling = item && item[1].length < inner && kindOf(line) === kind;
      if (sibling) {
        column = item[1].length + item[2].length + Math.min(item[3]?.length ?? 1, 4);
        items.push([item[4] ?? ""]);
      } else if (items.length && indentOf(line) >= inner) {
        items.at(-1).push(...Array(Math.min(blank, BLANKS_MAX)).fill(""), dedent(line, column));
      } else if (items.length && !blank && !interrupts(lines, next, depth) && !item) {
        items.at(-1).push(line);
      } else {
        break;
      }
      loose ||= blank > 0 && Boolean(sibling);
      blank = 0;
      end = next + 1;
    }
    next += 1;
  }
  const ordered = kind === "ordered";
  const block = {
    type: "list",
    ordered,
    first: ordered ? Number.parseInt(lines[at].trim(), 10) : 1,
    loose,
    items: items.map((own) => blocks(own, depth + 1)),
  };
  return { block, next: end };
}

function kindOf(line) {
  return /^\s*\d/.test(line) ? "ordered" : "bullets";
}

function startsTable(lines, at) {
  const rule = lines[at + 1];
  if (rule === undefined || !lines[at].includes("|") || !rule.includes("-") || !/^[\s:|-]+$/.test(rule)) return false;
  const columns = cells(rule);
  return columns.length <= COLUMNS_MAX && columns.every((cell) => isDelimiter(cell)) && cells(lines[at]).length === columns.length;
}

/** `---`, `:--`, `--:` or `:-:`. Read by hand: the obvious pattern is quadratic in a long run of dashes. */
function isDelimiter(cell) {
  let mark = cell;
  if (mark.startsWith(":")) mark = mark.slice(1);
  if (mark.endsWith(":")) mark = mark.slice(0, -1);
  return mark.length > 0 && allOf(mark, "-");
}

function table(lines, at) {
  const head = cells(lines[at]);
  const aligns = cells(lines[at + 1]).map((cell) => {
    if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
    return cell.startsWith(":") ? "left" : "";
  });
  const rows = [];
  let next = at + 2;
  while (next < lines.length && !isBlank(lines[next]) && lines[next].includes("|")) {
    const row = cells(lines[next]).slice(0, head.length);
    while (row.length < head.length) row.push("");
    rows.push(row);
    next += 1;
  }
  return { block: { type: "table", aligns, head, rows }, next };
}

/** The cells of a row; `\|` is a bar inside one, and so is a bar inside backticks. */
function cells(line) {
  const found = [];
  let cell = "";
  let fence = 0;
  const text = line.trim();
  const ticks = countOf(text, "`");
  for (let at = text.startsWith("|") ? 1 : 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === "\\" && text[at + 1] === "|") {
      cell += "|";
      at += 1;
    } else if (character === "|" && fence % 2 === 0) {
      found.push(cell.trim());
      cell = "";
    } else {
      if (character === "`" && ticks % 2 === 0) fence += 1;
      cell += character;
    }
  }
  if (cell.trim() || !text.endsWith("|")) found.push(cell.trim());
  return found;
}

function isBlank(line) {
  return line === undefined || line.trim() === "";
}

function allOf(text, character) {
  return countOf(text, character) === text.length;
}

function countOf(text, character) {
  let count = 0;
  for (const each of text) if (each === character) count += 1;
  return count;
}

function indentOf(line) {
  let columns = 0;
  for (const character of line) {
    if (character === " ") columns += 1;
    else if (character === "\t") columns += 4;
    else break;
  }
  return columns;
}

function dedent(line, columns) {
  let left = columns;
  let at = 0;
  while (left > 0 && (line[at] === " " || line[at] === "\t")) {
    left -= line[at] === "\t" ? 4 : 1;
    at += 1;
  }
  return line.slice(at);
}
