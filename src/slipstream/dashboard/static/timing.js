/* What is known of an answer's time, and the quiet line that says it. */

import { count, duration, rate } from "./format.js";

/** What the browser saw: it stands while the server's record is `awaited`, and where none is kept. Times in ms. */
export function seenHere({ id, startedMs, firstMs, lastMs, usage, model, finish }) {
  const ns = (ms) => (ms === null ? null : Math.round((ms - startedMs) * 1e6));
  return {
    awaited: true, id, model, finish, steps: [], upstream: "", outcome: "",
    first_token_ns: ns(firstMs), last_token_ns: ns(lastMs), duration_ns: ns(lastMs ?? firstMs ?? performance.now()),
    prompt_tokens: whole(usage?.prompt_tokens), output_tokens: whole(usage?.completion_tokens),
    cached_tokens: whole(usage?.prompt_tokens_details?.cached_tokens), chunk_gap_max_ns: null,
    tokens_estimated: false, attempts: null,
  };
}

/** Where the browser saw nothing of the request itself. */
const UNSEEN = { id: "", model: "", finish: "", duration_ns: 0, prompt_tokens: null, output_tokens: null, cached_tokens: null };

/** The server's record, narrowed to what is shown; every field is checked, none is trusted. */
export function fromRecord(record, seen = UNSEEN) {
  const steps = (Array.isArray(record.steps) ? record.steps : []).map(step).filter(Boolean).slice(0, 64);
  return {
    awaited: false,
    id: text(record.id) || seen.id,
    model: text(record.model) || seen.model,
    upstream: text(record.upstream),
    outcome: text(record.outcome),
    finish: text(record.finish_reason) || seen.finish,
    steps,
    first_token_ns: whole(record.first_token_ns),
    last_token_ns: whole(record.last_token_ns),
    duration_ns: whole(record.duration_ns) ?? seen.duration_ns,
    attempts: whole(record.attempts),
    prompt_tokens: whole(record.prompt_tokens) ?? seen.prompt_tokens,
    output_tokens: whole(record.output_tokens) ?? seen.output_tokens,
    cached_tokens: whole(record.cached_tokens) ?? seen.cached_tokens,
    tokens_estimated: record.tokens_estimated === true,
    chunk_gap_max_ns: whole(record.chunk_gap_max_ns),
  };
}

/** "412 ms to first token", "38 tokens", "52 tokens/s", "1.2 s": those that are known. */
export function summary(timing) {
  const parts = [];
  if (timing.first_token_ns !== null) parts.push(`${duration(timing.first_token_ns)} to first token`);
  if (timing.output_tokens !== null) parts.push(`${timing.tokens_estimated ? "about " : ""}${count(timing.output_tokens, "token")}`);
  const speed = tokensPerSecond(timing);
  if (speed !== null) parts.push(rate(speed, "tokens"));
  parts.push(duration(timing.duration_ns));
  return parts;
}

/** Decode speed: tokens after the first over the time from the first to the last; null where that says nothing. */
export function tokensPerSecond({ output_tokens: tokens, first_token_ns: first, last_token_ns: last }) {
  if (tokens === null || first === null || last === null || tokens < 2 || last - first < 1e6) return null;
  return (tokens - 1) / ((last - first) / 1e9);
}

function step(value) {
  const [name, start, took] = Array.isArray(value) ? value : [value?.name, value?.start_ns, value?.duration_ns];
  if (typeof name !== "string" || whole(start) === null || whole(took) === null) return null;
  return { name: name.slice(0, 60), start_ns: start, duration_ns: took };
}

function whole(value) {
  return Number.isFinite(value) && value >= 0 ? value : null;
}

function text(value) {
  return typeof value === "string" ? value.slice(0, 200) : "";
}
