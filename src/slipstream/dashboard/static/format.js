/* Numbers for people: three significant digits at most, the unit always there. */

/** A duration in nanoseconds: "0.04 ms", "8.2 ms", "412 ms", "1.24 s", "2 min 5 s". */
export function duration(ns) {
  const ms = ns / 1e6;
  if (ms < 0.01) return "< 0.01 ms";
  if (ms < 0.995) return `${ms.toFixed(2)} ms`;
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const seconds = ms / 1e3;
  if (seconds < 9.995) return `${trim(seconds.toFixed(2))} s`;
  if (seconds < 99.95) return `${trim(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
}

/** A count with its noun: "1 token", "1,204 tokens". */
export function count(value, noun) {
  return `${value.toLocaleString("en")} ${noun}${value === 1 ? "" : "s"}`;
}

/** A rate: "52 tokens/s", "3.4 tokens/s". */
export function rate(value, noun) {
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value).toLocaleString("en")} ${noun}/s`;
}

function trim(digits) {
  return digits.includes(".") ? digits.replace(/0$/, "").replace(/\.0?$/, "") : digits;
}
