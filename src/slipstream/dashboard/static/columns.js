/* The columns behind the charts: one grid of times, grown by frames while live. Touches no element. */

const RECENT = 10; // seconds that a range may be on its way

export class Columns {
  times = [];
  step = 1;
  #charts = new Map(); // chart id -> Map(label -> values)
  #recent = []; // frames that may have come while a range was on its way

  /** What the server told of a range. */
  replace({ times, step, pictures }) {
    this.times = times;
    this.step = step;
    this.#charts = new Map(pictures.map(({ id, lines }) => [id, new Map(lines.map(({ label, values }) => [label, values]))]));
    if (step === 1) for (const { at, lines } of this.#recent) this.#fill(at, lines);
  }

  /** Remember a frame: a range that was asked for before it came may end before it. */
  keep(frame) {
    this.#recent.push(frame);
    if (this.#recent.length > RECENT) this.#recent.shift();
  }

  /** A further second; the oldest beyond `seconds` are let go. A second that was missed is a gap. */
  push({ at, lines }, seconds) {
    const last = this.times.at(-1) ?? at - 1;
    if (at - last > seconds) return;
    for (let missed = last + 1; missed < at; missed += 1) this.#append(missed, this.#recent.find((each) => each.at === missed)?.lines ?? {});
    if (at > last) this.#append(at, lines);
    else this.#fill(at, lines); // the range was asked for in the middle of this second
    while (this.times.length > seconds) {
      this.times.shift();
      for (const chart of this.#charts.values()) for (const values of chart.values()) values.shift();
    }
  }

  /** `[{label, values}]` of a chart, in the order in which they came. */
  lines(id) {
    return [...(this.#charts.get(id) ?? new Map())].map(([label, values]) => ({ label, values }));
  }

  /** The values that a tile's metric has in some chart: of quantiles the p95, of the chart named like it the first or their sum. */
  behind(metric, charts) {
    const own = charts.find(({ id }) => id === metric);
    const drawn = own && [...(this.#charts.get(metric) ?? new Map()).values()];
    if (drawn?.length && own.lines[0].stat === "rate") return own.lines[0].by ? summed(drawn) : drawn[0];
    for (const { id, lines } of charts) {
      const line = lines.find((each) => each.metric === metric && !each.by && ["p95", "average", "ratio"].includes(each.stat));
      const values = line && this.#charts.get(id)?.get(line.label);
      if (values) return values;
    }
    return null;
  }

  #append(at, lines) {
    this.times.push(at);
    for (const chart of this.#charts.values()) for (const values of chart.values()) values.push(null);
    this.#fill(at, lines);
  }

  #fill(at, lines) {
    const place = this.times.lastIndexOf(at);
    if (place < 0) return;
    for (const [id, told] of Object.entries(lines)) {
      if (!this.#charts.has(id)) this.#charts.set(id, new Map());
      const chart = this.#charts.get(id);
      for (const [label, value] of Object.entries(told)) {
        if (value === null) continue;
        if (!chart.has(label)) {
          if (value === 0) continue; // a line begins with its first value
          chart.set(label, new Array(this.times.length).fill(null));
        }
        chart.get(label)[place] = value;
      }
    }
  }
}

function summed(columns) {
  return columns[0].map((_, at) => {
    const known = columns.map((values) => values[at]).filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
  });
}
