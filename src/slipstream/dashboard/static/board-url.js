/* What the page shows, kept in its address: the range, the filters of the requests, whether charts are tables. */

export const RANGES = [300, 900, 3600, 21_600, 86_400, 604_800, 2_592_000];
export const LIVE_SECONDS = 300;
const NAMES = { 300: "5m", 900: "15m", 3600: "1h", 21_600: "6h", 86_400: "24h", 604_800: "7d", 2_592_000: "30d" };
export const FILTERS = ["model", "outcome", "route", "upstream", "min_ms"];

/** The state in an address: `{seconds}` of a live range or `{from, to}`, `tables`, and `requests`. What is odd is ignored. */
export function read(search) {
  const asked = new URLSearchParams(search);
  const seconds = Number(Object.keys(NAMES).find((key) => NAMES[key] === asked.get("range"))) || LIVE_SECONDS;
  const [from, to] = [number(asked.get("from")), number(asked.get("to"))];
  const state = { seconds, from: null, to: null, tables: asked.get("view") === "tables", requests: {} };
  if (from !== null && to !== null && to > from) Object.assign(state, { from, to });
  for (const name of FILTERS) if (asked.get(name)) state.requests[name] = asked.get(name).slice(0, 256);
  const [since, until] = [number(asked.get("since")), number(asked.get("until"))];
  if (since !== null && until !== null && until > since) Object.assign(state.requests, { since, until });
  return state;
}

/** The address of a state. */
export function written(state) {
  const told = new URLSearchParams();
  if (state.from !== null) {
    told.set("from", String(Math.round(state.from)));
    told.set("to", String(Math.round(state.to)));
  } else if (state.seconds !== LIVE_SECONDS) {
    told.set("range", NAMES[state.seconds]);
  }
  for (const [name, value] of Object.entries(state.requests)) if (value !== "" && value !== null) told.set(name, String(value));
  if (state.tables) told.set("view", "tables");
  const query = told.toString();
  return query ? `?${query}` : location.pathname;
}

function number(text) {
  const value = Number(text);
  return text && Number.isFinite(value) && value > 0 && value < 1e11 ? value : null;
}
