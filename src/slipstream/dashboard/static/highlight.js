/* Colours for code: comments, strings, numbers and keywords by one pattern a language family. Not a parser. */

import { el } from "./dom.js";

const WORDS = {
  python: "and as assert async await break case class continue def del elif else except False finally for from global if import in is lambda match None nonlocal not or pass raise return True try while with yield",
  script: "as async await break case catch class const continue default delete do else enum export extends false finally for from function if implements import in instanceof interface let new null of private public readonly return static super switch this throw true try type typeof undefined var void while yield",
  clike: "auto bool break case char class const continue default defer do double else enum extern false final float fn for func go goto if impl import in int interface let long loop match mod mut namespace new nil null nullptr package private protected pub public return short signed sizeof static string struct super switch template this throw trait true try type typedef union unsigned use using var virtual void where while",
  shell: "case do done elif else esac export fi for function if in local return set then until while",
  sql: "add all alter and as asc between by case create cross delete desc distinct drop else end exists explain from full group having in index inner insert into is join key left like limit not null on or order outer primary references right select set table then union unique update values view when where with",
  data: "true false null yes no on off",
};
const FAMILIES = {
  python: "python py python3",
  script: "javascript js jsx typescript ts tsx mjs",
  clike: "c cpp c++ cc h java go golang rust rs swift kotlin kt csharp cs c# php scala dart",
  shell: "bash sh shell zsh console",
  sql: "sql postgresql mysql sqlite",
  data: "json yaml yml toml ini jsonc",
};
const COMMENTS = {
  python: "#[^\\n]*",
  script: "//[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|$)",
  clike: "//[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|$)",
  shell: "(?<![^\\s;])#[^\\n]*",
  sql: "--[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|$)",
  data: "(?<![^\\s])#[^\\n]*|(?<![^\\s])//[^\\n]*",
};
const STRINGS = {
  python: '"""[\\s\\S]*?(?:"""|$)|\'\'\'[\\s\\S]*?(?:\'\'\'|$)|',
  script: "`(?:[^`\\\\]|\\\\[\\s\\S])*(?:`|$)|",
};
const QUOTED = '"(?:[^"\\\\\\n]|\\\\.)*"?|\'(?:[^\'\\\\\\n]|\\\\.)*\'?';

const patterns = new Map();

/** Nodes for `text` in `language`: plain text where the language is not known. */
export function highlight(text, language) {
  const family = familyOf(language);
  if (!family) return [document.createTextNode(text)];
  const { pattern, words } = patternOf(family);
  const nodes = [];
  let plain = 0;
  for (const found of text.matchAll(pattern)) {
    const kind = kindOf(found, words, family);
    if (!kind) continue;
    if (found.index > plain) nodes.push(document.createTextNode(text.slice(plain, found.index)));
    const mark = el("span", { class: kind });
    mark.textContent = found[0];
    nodes.push(mark);
    plain = found.index + found[0].length;
  }
  nodes.push(document.createTextNode(text.slice(plain)));
  return nodes;
}

function familyOf(language) {
  const wanted = language.toLowerCase();
  return Object.keys(FAMILIES).find((family) => FAMILIES[family].split(" ").includes(wanted));
}

function patternOf(family) {
  if (!patterns.has(family)) {
    const source = `(${COMMENTS[family]})|(${STRINGS[family] ?? ""}${QUOTED})|(\\b\\d[\\w.]*)|([A-Za-z_$][\\w$]*)`;
    patterns.set(family, { pattern: new RegExp(source, "g"), words: new Set(WORDS[family].split(" ")) });
  }
  return patterns.get(family);
}

function kindOf([, comment, string, number, word], words, family) {
  if (comment !== undefined) return "hl-comment";
  if (string !== undefined) return "hl-string";
  if (number !== undefined) return "hl-number";
  return words.has(family === "sql" ? word.toLowerCase() : word) ? "hl-word" : "";
}
