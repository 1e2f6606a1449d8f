/* The server as the page uses it: models, a streamed answer, a request's record, readiness. Touches no element. */

import { EventParser } from "./sse.js";

/** What went wrong, in the server's words where it had any. `kind`: "api", "key", "gone" or "broken". */
export class ApiError extends Error {
  constructor(kind, message, { hint = "", code = "", status = 0 } = {}) {
    super(message);
    this.kind = kind;
    this.hint = hint;
    this.code = code;
    this.status = status;
  }
}

/** Waits before a record is asked for: it reaches the server's store some 100 ms after the answer, and a miss fills the console. */
const RECORD_WAITS_MS = [150, 300, 600, 1200];

let key = ""; // kept in memory only: a reload forgets it

/** Use an API key from here on; empty = none. */
export function useKey(value) {
  key = value;
}

/** The models that can chat. */
export async function models() {
  const list = await json("/v1/models");
  const found = (Array.isArray(list.data) ? list.data : [])
    .filter((entry) => typeof entry?.id === "string" && entry.id)
    .map(({ id, slipstream: more = {} }) => ({
      id,
      isDefault: more?.default === true,
      backend: String(more?.backend ?? ""),
      state: String(more?.state ?? ""),
    }));
  const chatting = found.filter(({ backend }) => !/embed/i.test(backend));
  return chatting.length ? chatting : found;
}

/**
 * `{isGone, loading, failed}`: whether nobody answers, and the names of the models that load or do not start.
 * A server that drains says so itself when it is asked a question.
 */
export async function readiness() {
  let response;
  try {
    response = await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(5000) });
  } catch {
    return { isGone: true, loading: [], failed: [] };
  }
  const body = response.status === 503 ? await response.json().catch(() => null) : null;
  return { isGone: false, loading: names(body?.loading), failed: names(body?.failed) };
}

function names(list) {
  return Array.isArray(list) ? list.filter((name) => typeof name === "string") : [];
}

/** The record of a request that is over; null where none is kept. */
export async function record(id) {
  for (const wait of RECORD_WAITS_MS) {
    await new Promise((done) => setTimeout(done, wait));
    try {
      const response = await ask(`/_slipstream/requests/${encodeURIComponent(id)}`);
      if (response.ok) return await response.json();
      if (response.status !== 404) return null;
    } catch {
      return null; // timings are an extra: the answer stands without them
    }
  }
  return null;
}

/**
 * Ask for an answer; yields `{type: "head", id}`, then `{type: "text" | "thought", text}`, `{type: "usage", usage}`
 * and `{type: "finish", reason}`. Throws ApiError, or the AbortError of `signal`.
 */
export async function* chat({ model, messages, signal }) {
  const body = { messages, stream: true, stream_options: { include_usage: true } };
  if (model) body.model = model;
  const response = await ask("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  yield { type: "head", id: response.headers.get("x-request-id") ?? "" };
  if (!response.ok) throw await refusal(response);
  let ended = false;
  for await (const event of events(response, signal)) {
    if (event.data === "[DONE]") return;
    for (const part of parts(event)) {
      ended ||= part.type === "finish";
      yield part;
    }
  }
  if (!ended) throw new ApiError("broken", "The answer broke off before it was finished.");
}

async function* events(response, signal) {
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(value);
    }
  } catch (error) {
    if (signal?.aborted || error instanceof ApiError) throw error;
    throw new ApiError("broken", "The connection was lost in the middle of the answer.");
  } finally {
    reader.cancel().catch(() => {}); // the request ends with its reader
  }
}

function* parts({ type, data }) {
  let seen;
  try {
    seen = JSON.parse(data);
  } catch {
    return; // not ours to read
  }
  if (seen?.error || type === "error") throw fromBody(seen, 0, "broken");
  const choice = seen?.choices?.[0];
  const delta = choice?.delta ?? {};
  if (typeof delta.reasoning_content === "string" && delta.reasoning_content) yield { type: "thought", text: delta.reasoning_content };
  for (const text of [delta.content, delta.refusal]) if (typeof text === "string" && text) yield { type: "text", text };
  if (seen?.usage) yield { type: "usage", usage: seen.usage };
  if (choice?.finish_reason) yield { type: "finish", reason: String(choice.finish_reason) };
}

async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  try {
    return await fetch(path, { cache: "no-store", credentials: "same-origin", ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError("gone", "The server does not answer.", { hint: "Is it still running?" });
  }
}

async function json(path) {
  const response = await ask(path);
  if (!response.ok) throw await refusal(response);
  return response.json().catch(() => {
    throw new ApiError("api", "The server's answer could not be read.", { status: response.status });
  });
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  return fromBody(body, response.status, response.status === 401 ? "key" : "api");
}

function fromBody(body, status, kind) {
  const error = body?.error ?? {};
  const words = typeof error === "string" ? error : error.message;
  const message = typeof words === "string" && words ? words : `The server answered with status ${status || "error"}.`;
  // The server repeats the hint at the end of the message, for clients that show nothing else.
  const hint = String(error.hint ?? "");
  const alone = message.endsWith(hint) ? message.slice(0, message.length - hint.length).trimEnd() : message;
  return new ApiError(kind, alone || message, { hint: alone ? hint : "", code: String(error.code ?? ""), status });
}
