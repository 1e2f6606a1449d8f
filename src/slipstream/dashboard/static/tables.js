/* What tables of several pages share: a table in its box, and a share as a bar with its figure. */

import { el } from "./dom.js";

/** A table: columns as [name, class, value of a row]; `below(row)` gives what stands under one, over the whole width. */
export function table(caption, columns, rows, below = () => []) {
  const body = rows.flatMap((row) => {
    const cells = columns.map(([, kind, value]) => el("td", { class: kind }, ...[value(row)].flat()));
    const rest = below(row);
    return [el("tr", {}, ...cells), ...(rest.length ? [el("tr", { class: "row-detail" }, el("td", { colspan: columns.length }, ...rest))] : [])];
  });
  return el("div", { class: "table-box" }, el("table", {}, el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, ...columns.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))), el("tbody", {}, ...body)));
}

/** A share of one. */
export function shareBar(share) {
  const bar = el("i", { class: "share", "aria-hidden": "true" });
  bar.style.width = `${Math.max(0, Math.min(1, share)) * 3}rem`;
  return el("span", { class: "share-cell" }, bar, `${Math.round(share * 100) + 0} %`);
}
