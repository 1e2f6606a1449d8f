/* A flame graph of a server's CPU profile: one block a function on its callers, as wide as its CPU time. Search and zoom. */

import { el } from "./dom.js";
import { told } from "./units.js";

const NARROWEST = 0.002; // of the width; narrower blocks could neither be read nor hit
const ROW_REM = 1.375;
const DEPTH_MAX = 200;
const HUES = 6;

export class Flame {
  #root = null;
  #top = null; // the block that fills the width
  #query = "";
  #node;
  #tip;
  #zoomed;

  /** Into `node`; `tip` tells about a block; `zoomed(bool)` hears whether less than all shows. */
  constructor(node, { tip, zoomed }) {
    this.#node = node;
    this.#tip = tip;
    this.#zoomed = zoomed;
  }

  /** Draw a profile as the server sent it; what to say of it. */
  show({ processes, seconds }) {
    this.#root = tree(processes);
    this.#zoom(this.#root);
    const failed = processes.filter(({ error }) => error).map(({ process, error }) => ` ${process}: ${error}.`);
    const worst = Math.max(0, ...processes.map(({ cpu }) => (cpu?.seconds ? cpu.own_seconds / cpu.seconds : 0)));
    const own = processes.reduce((sum, { cpu }) => sum + (cpu?.own_seconds ?? 0), 0);
    if (!this.#root.ns) return `No process used any CPU in ${seconds} s.${failed.join("")}`;
    const used = told(this.#root.ns / 1e6, "ms");
    return `${used} of CPU in ${seconds} s, of ${processes.length} processes; looking took ${told(own * 1000, "ms")} besides, all together, and at most ${told(worst, "1")} of a core in one.${failed.join("")}`;
  }

  /** Mark the functions whose name or file holds a text; the tip says their share. */
  find(query) {
    this.#query = query.trim().toLowerCase();
    this.#draw();
  }

  /** All of it again. */
  widen() {
    if (this.#root) this.#zoom(this.#root);
  }

  #zoom(block) {
    this.#top = block;
    this.#zoomed(block !== this.#root);
    this.#draw();
  }

  #draw() {
    if (!this.#root) return;
    const blocks = [];
    const above = [];
    for (let at = this.#top.parent; at; at = at.parent) above.unshift(at);
    above.forEach((block, depth) => blocks.push(this.#block(block, depth, 0, 1)));
    let deepest = above.length;
    const waiting = [{ block: this.#top, depth: above.length, left: 0 }];
    while (waiting.length) {
      const { block, depth, left } = waiting.pop();
      const width = block.ns / Math.max(this.#top.ns, 1);
      if (width < NARROWEST || depth > DEPTH_MAX) continue;
      deepest = Math.max(deepest, depth);
      blocks.push(this.#block(block, depth, left, width));
      let at = left;
      for (const child of block.ordered()) {
        waiting.push({ block: child, depth: depth + 1, left: at });
        at += child.ns / Math.max(this.#top.ns, 1);
      }
    }
    this.#node.style.height = this.#root.ns ? `${(deepest + 1) * ROW_REM}rem` : "0";
    this.#node.replaceChildren(...(this.#root.ns ? blocks : []));
    this.#tip.textContent = this.#query ? this.#found() : "Click a block to see it alone; hover or focus one to read it.";
  }

  #block(block, depth, left, width) {
    const text = this.#told(block);
    const node = el("button", {
      class: `flame-block hue-${block.hue}${this.#matches(block) ? " is-found" : ""}`, type: "button", "aria-label": text,
      onclick: () => this.#zoom(block),
      onpointerenter: () => { this.#tip.textContent = text; },
      onfocus: () => { this.#tip.textContent = text; },
    }, width > 0.03 ? block.name : "");
    node.style.left = `${left * 100}%`;
    node.style.width = `${width * 100}%`;
    node.style.top = `${depth * ROW_REM}rem`;
    return node;
  }

  #told(block) {
    const share = (block.ns / Math.max(this.#root.ns, 1)) * 100;
    const where = block.file ? ` (${block.file}:${[...block.lines].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "?"})` : "";
    const requests = block.tags.size ? `, ${block.tags.size} ${block.tags.size === 1 ? "request" : "requests"}` : "";
    return `${block.name}${where}: ${told(block.ns / 1e6, "ms")}, ${share.toFixed(1)} %, itself ${told(block.own / 1e6, "ms")}${requests}`;
  }

  #matches(block) {
    return this.#query !== "" && block.parent !== null && `${block.name} ${block.file}`.toLowerCase().includes(this.#query);
  }

  /** The time of what is found, what lies on it counted once. */
  #found() {
    let sum = 0;
    const waiting = [this.#root];
    while (waiting.length) {
      const block = waiting.pop();
      if (this.#matches(block)) sum += block.ns;
      else waiting.push(...block.ordered());
    }
    return `“${this.#query}”: ${((sum / Math.max(this.#root.ns, 1)) * 100).toFixed(1)} % of the CPU time.`;
  }
}

class Block {
  constructor(name, file, parent) {
    this.name = name;
    this.file = file;
    this.parent = parent;
    this.ns = 0;
    this.own = 0;
    this.lines = new Map();
    this.tags = new Set();
    this.children = new Map();
    this.hue = [...file].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % HUES;
  }

  ordered() {
    return [...this.children.values()].sort((a, b) => b.ns - a.ns);
  }

  child(name, file) {
    const key = `${file}\n${name}`;
    if (!this.children.has(key)) this.children.set(key, new Block(name, file, this));
    return this.children.get(key);
  }

  add(ns, line, tag) {
    this.ns += ns;
    if (line) this.lines.set(line, (this.lines.get(line) ?? 0) + ns);
    if (tag.startsWith("req_")) this.tags.add(tag);
  }
}

/** All stacks of all processes in one tree, a level for the processes first. */
function tree(processes) {
  const root = new Block("all processes", "", null);
  for (const { process, cpu } of processes) {
    if (!cpu) continue;
    cpu.stacks.forEach((stack, at) => {
      const ns = cpu.cpu_ns[at];
      root.add(ns, 0, "");
      let block = root.child(process, "");
      block.add(ns, 0, cpu.tags[at]);
      for (const place of stack) {
        const { function: name, file, line } = cpu.frames[place];
        block = block.child(name, short(file));
        block.add(ns, line, cpu.tags[at]);
      }
      block.own += ns;
    });
  }
  return root;
}

function short(file) {
  return file.split("/").slice(-2).join("/");
}
