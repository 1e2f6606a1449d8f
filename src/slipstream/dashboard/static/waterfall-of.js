/* The waterfall of a stored request by its id: its record is fetched, and what stands in the way is said in its place. */

import * as api from "./board-api.js";
import { el } from "./dom.js";
import { fromRecord } from "./timing.js";
import { waterfall } from "./waterfall.js";

/** The waterfall, or a line that says why there is none. */
export async function waterfallOf(id) {
  try {
    const record = await api.optional(`/_slipstream/requests/${encodeURIComponent(id)}`);
    return record ? waterfall(fromRecord(record)) : quiet(`No record of ${id.slice(0, 80)} is kept.`);
  } catch (error) {
    if (!(error instanceof api.FeedError)) throw error;
    return quiet(`${error.message} ${error.hint}`);
  }
}

function quiet(text) {
  return el("p", { class: "quiet" }, text);
}
