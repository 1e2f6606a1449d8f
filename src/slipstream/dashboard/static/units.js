/* Values with their units, for tiles, legends, axes and tables: three significant digits, the unit always there. */

const BYTES = ["B", "KB", "MB", "GB", "TB"];

/** A value and its unit apart: `["1.24", "s"]`. null is a dash. */
export function split(value, unit) {
  if (value === null || value === undefined || !Number.isFinite(value)) return ["–", ""];
  if (unit === "ms") return time(value);
  if (unit.startsWith("bytes")) return bytes(value, unit.slice(5));
  if (unit === "1") return [digits(value * 100), "%"];
  if (unit.startsWith("USD")) return [`$${value > 0 && value < 0.01 ? value.toPrecision(2) : digits(value)}`, unit.slice(3)];
  return [digits(value), short(unit, value)];
}

/** A value with its unit in one: "1.24 s". */
export function told(value, unit) {
  return split(value, unit).filter(Boolean).join(" ");
}

/** For an axis: as short as it can be. */
export function tick(value, unit) {
  if (value === 0) return "0";
  if (unit === "%" || unit === "1" || unit === "ms" || unit.startsWith("bytes")) return told(value, unit).replace(/(\.\d*?)0+ /, "$1 ").replace(". ", " ");
  if (unit.startsWith("USD")) return `$${Number(value.toPrecision(3))}`;
  return value >= 1000 ? `${Number((value / 1000).toPrecision(3))}k` : String(Number(value.toPrecision(3)));
}

/** The moment of a number of seconds since 1970: with its date where it is not today. */
export function moment(seconds, { date = false } = {}) {
  const at = new Date(seconds * 1000);
  const time = at.toLocaleTimeString("en-GB");
  const today = at.toDateString() === new Date().toDateString();
  return today && !date ? time : `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}`;
}

/** A length of time in words as short as can be: "15 min". */
export function span(seconds) {
  for (const [size, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size && seconds % size === 0) return `${seconds / size} ${name}`;
  }
  return seconds > 5400 ? `${(seconds / 3600).toFixed(1)} h` : seconds > 90 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds)} s`;
}

function time(ms) {
  if (ms === 0) return ["0", "ms"];
  if (ms < 0.1) return [digits(ms * 1000), "µs"];
  if (ms < 999.5) return [digits(ms), "ms"];
  return ms < 120_000 ? [digits(ms / 1000), "s"] : [digits(ms / 60_000), "min"];
}

function bytes(value, per) {
  let at = 0;
  while (Math.abs(value) >= 999.5 && at < BYTES.length - 1) {
    value /= 1000;
    at += 1;
  }
  return [digits(value), BYTES[at] + per];
}

function short(unit, value) {
  if (unit === "requests/s") return "req/s";
  return unit === "requests" && value === 1 ? "request" : unit;
}

function digits(value) {
  const size = Math.abs(value);
  if (size >= 999.5) return Math.round(value).toLocaleString("en");
  if (size >= 99.95) return value.toFixed(0);
  if (size >= 9.995) return value.toFixed(1);
  return size === 0 ? "0" : size < 0.01 ? value.toPrecision(1) : value.toFixed(2);
}
