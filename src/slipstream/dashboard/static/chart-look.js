/* How charts look: colours of the theme as canvases need them, dashes, axes, the marks of deploys and alerts. */

import { moment, tick } from "./units.js";

export const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [4, 4], [1, 2]];
export const LINES_MAX = DASHES.length;

/** A colour of the style sheet, resolved for the theme that shows. */
export function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}
const probe = document.createElement("i");
probe.hidden = true;
document.documentElement.append(probe);

/** The colour of the line with this number. */
export const lineColour = (index) => colour(`--line-${(index % LINES_MAX) + 1}`);

/** A colour with some of it let through. */
export function faded(rgb, share) {
  const parts = rgb.match(/[\d.]+/g) ?? ["0", "0", "0"];
  return `rgba(${parts[0]}, ${parts[1]}, ${parts[2]}, ${share})`;
}

/** Both axes of a chart. */
export function axes(unit) {
  const shared = { stroke: colour("--ink-faint"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  const grid = { stroke: colour("--line"), width: 1 };
  return [
    { ...shared, grid: { show: false }, space: (_, __, ___, ____, width) => (width > 420 ? 84 : 56), size: 26, values: (_, splits, __, ___, step) => splits.map((at) => clock(at, step)) },
    { ...shared, grid, space: 32, size: 54, gap: 4, values: (_, splits) => splits.map((at) => tick(at, unit)) },
  ];
}

function clock(at, step) {
  const date = new Date(at * 1000);
  if (step >= 86_400) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const options = step < 60 ? { hour: "2-digit", minute: "2-digit", second: "2-digit" } : { hour: "2-digit", minute: "2-digit" };
  const midnight = step >= 3600 && date.getHours() === 0 && date.getMinutes() === 0;
  return midnight ? date.toLocaleDateString("en-GB", { day: "numeric", month: "short" }) : date.toLocaleTimeString("en-GB", options);
}

/** From zero to a little above the highest; shares and percentages reach at least a tenth of the whole. */
export function yRange(unit) {
  const least = { "%": 10, 1: 0.1 }[unit] ?? 0;
  const most = { "%": 100, 1: 1 }[unit] ?? Infinity;
  return (_, __, high) => {
    const top = Math.max((high || 0) * 1.08, least);
    return [0, Math.min(top, Math.max(most, high || 0)) || 1];
  };
}

/** Vertical lines at the marks that lie within the range: `[{at, kind, text}]` of `read()`. */
export function drawMarks(u, marks) {
  const { ctx, bbox } = u;
  ctx.save();
  for (const { at, kind } of marks) {
    if (at < u.scales.x.min || at > u.scales.x.max) continue;
    const x = Math.round(u.valToPos(at, "x", true));
    ctx.strokeStyle = ctx.fillStyle = colour(kind === "alert" ? "--alert" : "--ink-faint");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.beginPath();
    const size = 4 * devicePixelRatio;
    ctx.moveTo(x - size, bbox.top - size);
    ctx.lineTo(x + size, bbox.top - size);
    ctx.lineTo(x, bbox.top + size / 2);
    ctx.fill();
  }
  ctx.restore();
}

/** The mark under a moment, if one is near. */
export function markNear(marks, at, within) {
  return marks.find((mark) => Math.abs(mark.at - at) <= within) ?? null;
}

/** "14:02:11 · deploy: new prompt". */
export function told(mark) {
  return `${moment(mark.at)} · ${mark.kind}: ${mark.text}`;
}
