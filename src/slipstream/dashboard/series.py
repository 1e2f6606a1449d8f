"""The past as columns for charts: one grid of times, one value a line and step, whole ranges told in words.

The server thins out to what the page can draw; quantiles of a step are those of its own values, never
means of quantiles. It may read the stored past: not for an event loop.
"""

import math
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from slipstream.core.histogram import FIRST, PER_OCTAVE, Sketch, bounds, merged, middle
from slipstream.core.metrics import METRICS, OTHER
from slipstream.core.readings import Labels, Point, Readings, Span
from slipstream.dashboard.charts import LINES_BY_LABEL_MAX, QUANTILES, Chart, Line

STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400)
"""Lengths of a step, in seconds."""
POINTS_MAX = 2000
"""Most steps of one answer."""
OCTAVE_ROWS = 4
"""Rows of the heat map for each doubling of time; a row is 8 buckets of the histogram."""
STORED_STEP = 10
"""Seconds of the shortest step that is stored; a shorter one shows the same value for as long."""
QUANTILE_SECONDS = 15
"""Quantiles tell of at least so many seconds up to a point: those of single requests say nothing."""
RATE_SECONDS = 5
"""The same of rates: an answer's tokens are counted at its end, which makes single seconds jump."""
SECOND_NS = 1_000_000_000

Column = list[float | None]
_Key = tuple[str, tuple[tuple[str, str], ...]]
"""A metric and its labels."""


class Drawn(Struct, frozen=True):
    """One line with its values, one a step, None where nothing is known."""

    label: str
    values: Column
    labels: dict[str, str] = {}


class Heat(Struct, frozen=True):
    """How many values fell into which step and row.

    Attributes:
        edges: bounds of the rows in the metric's unit, one more than there are rows.
        cells: step, row and count of every cell that is not empty, one after the other.
    """

    edges: list[float]
    cells: list[int]


class Picture(Struct, frozen=True):
    """A chart with its lines.

    Attributes:
        id: the chart's.
        lines: what is drawn.
        takeaway: one sentence that says what there is to see.
        heat: of a heat map.
    """

    id: str
    lines: list[Drawn]
    takeaway: str
    heat: Heat | None = None


class Series(Struct, frozen=True):
    """All charts over one range. `times` are the begins of the steps, seconds of the wall clock."""

    start: float
    end: float
    step: int
    times: list[int]
    pictures: list[Picture]


def step_for(seconds: float, points: int) -> int:
    """The shortest step that a range of `seconds` makes at most `points` of."""
    least = seconds / max(1, min(points, POINTS_MAX))
    return next((step for step in STEPS if step >= least), math.ceil(least / STEPS[-1]) * STEPS[-1])


class Reading:
    """One range of the past of all metrics, read once each.

    Args:
        readings: where from.
        start_ns, end_ns: the range, wall clock; widened to whole steps.
        step: seconds of a step.
    """

    def __init__(self, readings: Readings, start_ns: int, end_ns: int, *, step: int) -> None:
        self._readings = readings
        self._step = step
        self._coarse = max(step, STORED_STEP)
        coarse_ns, step_ns = self._coarse * SECOND_NS, step * SECOND_NS
        self._lead = QUANTILE_SECONDS // step  # steps before the range, for what looks back
        self._first = start_ns // step_ns - self._lead
        self._count = max(1, min(POINTS_MAX + 1, -(-end_ns // step_ns) - start_ns // step_ns)) + self._lead
        self._now_ns = readings.now_wall_ns()
        self._fresh_ns = -(-readings.fresh_since_ns() // coarse_ns) * coarse_ns  # nothing counts twice
        self._known: dict[_Key, list[Point | None]] = {}
        self._sketches: dict[_Key, list[Sketch]] = {}
        self._quantiles: dict[_Key, dict[str, Column]] = {}

    @property
    def times(self) -> list[int]:
        """Where the steps begin, in seconds."""
        return [(self._first + at) * self._step for at in range(self._lead, self._count)]

    def picture(self, chart: Chart) -> Picture:
        """One chart, filled."""
        if chart.drawn == "heat":
            points = self._points(chart.lines[0].metric, chart.lines[0].labels)[self._lead :]
            scale = METRICS[chart.lines[0].metric].scale
            return Picture(chart.id, [], self._spread(chart.lines[0]), heat_of(points, scale))
        drawn = [each for line in chart.lines for each in self._drawn(line)]
        return Picture(chart.id, drawn, self._takeaway(chart, drawn))

    def whole(self, metric: str, labels: Labels) -> Sketch | None:
        """All values of a histogram within the range, as one sketch."""
        self._points(metric, labels)
        return merged(self._sketches[_key(metric, labels)])

    def _drawn(self, line: Line) -> list[Drawn]:
        if not line.by:
            values = self._values(line, line.labels)[self._lead :]
            return [Drawn(line.label, values, line.labels)] if _is_told(values) else []
        name = METRICS[line.metric].over[0] or line.metric
        sets = {labels[line.by]: None for labels in self._readings.label_sets(name) if labels.get(line.by)}
        lines = [Drawn(value, self._values(line, labels)[self._lead :], labels) for value in sets
                 for labels in [{**line.labels, line.by: value}]]  # fmt: skip
        told = [each for each in lines if any(value for value in each.values)]
        told.sort(key=lambda each: -sum(value or 0.0 for value in each.values))
        kept = told[:LINES_BY_LABEL_MAX]
        return sorted(kept, key=lambda each: (each.label == OTHER, each.label))

    def _values(self, line: Line, labels: Labels) -> Column:
        if line.stat == "ratio":
            return self._shares(line.metric, labels)
        points = self._points(line.metric, labels)
        if line.stat in QUANTILES:
            key = _key(line.metric, labels)
            if key not in self._quantiles:
                steps, scale = QUANTILE_SECONDS // self._step, METRICS[line.metric].scale
                self._quantiles[key] = columns_of(rolling(points, steps, scale))
            return self._quantiles[key][line.stat]
        if line.stat == "average":
            return [_short(p.sum / p.count) if p is not None and p.count else None for p in points]
        return self._rates(points, line.factor)

    def _rates(self, points: Sequence[Point | None], factor: float) -> Column:
        """A counter a second, over each step and those before it that were watched, some seconds in all."""
        lived, steps = self._lived(), max(1, RATE_SECONDS // self._step)
        known = [point is not None or lived[at] for at, point in enumerate(points)]
        rates: Column = []
        for at in range(len(points)):
            window = [each for each in range(max(0, at - steps + 1), at + 1) if known[each]]
            grown = sum(point.sum for each in window if (point := points[each]) is not None)
            seconds = sum(self._seconds(each) for each in window)
            rates.append(_short(grown * factor / seconds) if known[at] else None)
        return rates

    def _shares(self, name: str, labels: Labels) -> Column:
        metric = METRICS[name]
        above, below = (self._points(each, labels) for each in metric.over)
        return [
            _short((part.sum if part is not None else 0.0) / whole.sum * metric.factor)
            if whole is not None and whole.sum
            else None
            for part, whole in zip(above, below, strict=True)
        ]

    def _lived(self) -> list[bool]:
        """In which steps a server was watching: there a counter that did not grow is 0, elsewhere unknown."""
        return [point is not None for point in self._points("memory_usage", {})]

    def _seconds(self, at: int) -> float:
        """How much of a step is over."""
        begun_ns = (self._first + at) * self._step * SECOND_NS
        return max(1.0, min(float(self._step), (self._now_ns - begun_ns) / SECOND_NS))

    def _points(self, metric: str, labels: Labels) -> list[Point | None]:
        key = _key(metric, labels)
        if key not in self._known:
            self._sketches[key] = []
            column: list[Point | None] = [None] * self._count
            self._known[key] = column
            step_ns = self._step * SECOND_NS
            start_ns, end_ns = self._first * step_ns, (self._first + self._count) * step_ns
            split_ns = min(max(self._fresh_ns, start_ns), end_ns)
            if start_ns < split_ns:
                start_ns -= start_ns % (self._coarse * SECOND_NS)
                self._fill(key, column, Span(start_ns, split_ns, float(self._coarse)))
            if split_ns < end_ns:
                self._fill(key, column, Span(split_ns, end_ns, float(self._step)))
        return self._known[key]

    def _fill(self, key: _Key, column: list[Point | None], span: Span) -> None:
        """Put a part of the range into its steps; a longer stored step is spread over those it lasts."""
        wide = max(1, round(span.step_seconds) // self._step)
        for point in self._readings.history(key[0], dict(key[1]), span):
            at = point.wall_ns // (self._step * SECOND_NS) - self._first
            if point.sketch is not None and at + wide > self._lead:
                self._sketches[key].append(point.sketch)
            if wide > 1 and METRICS[key[0]].kind == "counter":
                point = msgspec.structs.replace(point, sum=point.sum / wide)  # noqa: PLW2901
            for place in range(max(at, 0), min(at + wide, self._count)):
                column[place] = point

    def _takeaway(self, chart: Chart, drawn: Sequence[Drawn]) -> str:
        quantile = next((line for line in chart.lines if line.stat in QUANTILES and not line.by), None)
        if quantile is not None:
            return self._spread(quantile)
        if not drawn:
            return "Nothing was seen in this range."
        parts = [f"{each.label} {amount(_mean(each.values), chart.unit)}" for each in drawn[:3]]
        most = max((value for each in drawn for value in each.values if value is not None), default=0.0)
        return f"On average {', '.join(parts)}; at most {amount(most, chart.unit)}."

    def _spread(self, line: Line) -> str:
        sketch = self.whole(line.metric, line.labels)
        if sketch is None or not sketch.count:
            return "Nothing was seen in this range."
        told = ", ".join(f"{name} {amount(sketch.quantile(q) or 0.0, 'ms')}" for name, q in QUANTILES.items())
        return f"{told} of {sketch.count:,}."


def read(readings: Readings, charts: Sequence[Chart], start_ns: int, end_ns: int, *, points: int) -> Series:
    """All of `charts` over a range, in at most `points` steps; optional ones without data are left out."""
    step = step_for((end_ns - start_ns) / SECOND_NS, points)
    if any(chart.drawn == "heat" for chart in charts):  # each value is in one cell
        step = max(step, STORED_STEP)
    reading = Reading(readings, start_ns, end_ns, step=step)
    pictures = [(chart, reading.picture(chart)) for chart in charts]
    shown = [picture for chart, picture in pictures if not chart.optional or picture.lines]
    return Series(start_ns / SECOND_NS, end_ns / SECOND_NS, step, reading.times, shown)


def rolling(points: Sequence[Point | None], steps: int, scale: float) -> list[Sketch | None]:
    """The values of each step and those before it, `steps` in all, as sketches; None where there are none."""
    if steps <= 1:
        return [point.sketch if point is not None else None for point in points]
    column: list[Sketch | None] = []
    buckets: dict[int, int] = {}
    for at, point in enumerate(points):
        left = points[at - steps] if at >= steps else None
        for change, sign in ((point, 1), (left, -1)):
            if change is not None and change.sketch is not None:
                for slot, count in change.sketch.buckets.items():
                    buckets[slot] = buckets.get(slot, 0) + sign * count
                    if not buckets[slot]:
                        del buckets[slot]
        column.append(Sketch(dict(buckets), 0.0, scale) if buckets else None)
    return column


def columns_of(sketches: Sequence[Sketch | None]) -> dict[str, Column]:
    """All quantiles of each sketch; each is sorted once, and one like the one before not at all."""
    columns: dict[str, Column] = {name: [] for name in QUANTILES}
    last: Sketch | None = None
    told: list[float | None] = [None] * len(QUANTILES)
    for sketch in sketches:
        if sketch is None:
            told = [None] * len(QUANTILES)
        elif last is None or sketch.buckets != last.buckets:
            told = [_short(value) for value in quantiles_of(sketch, tuple(QUANTILES.values()))]
        last = sketch
        for column, value in zip(columns.values(), told, strict=True):
            column.append(value)
    return columns


def quantiles_of(sketch: Sketch, qs: Sequence[float]) -> list[float]:
    """What `Sketch.quantile` tells of each of `qs`, which ascend, in one pass. The sketch holds something."""
    count = sketch.count
    ranks = [max(1, math.ceil(q * count)) for q in qs]
    told: list[float] = []
    seen = 0
    for slot, many in sorted(sketch.buckets.items()):
        seen += many
        while len(told) < len(ranks) and seen >= ranks[len(told)]:
            told.append(middle(slot) / sketch.scale)
    return told


def heat_of(points: Sequence[Point | None], scale: float) -> Heat:
    """The heat map of a histogram's steps, from the lowest row that holds anything to the highest."""
    cells: dict[tuple[int, int], int] = {}
    for at, point in enumerate(points):
        if point is not None and point.sketch is not None:
            for slot, count in point.sketch.buckets.items():
                row = heat_row(slot)
                cells[at, row] = cells.get((at, row), 0) + count
    if not cells:
        return Heat([], [])
    low, high = min(row for _, row in cells), max(row for _, row in cells)
    edges = [_short(_edge(row) / scale) or 0.0 for row in range(low, high + 2)]
    flat = [number for (at, row), count in sorted(cells.items()) for number in (at, row - low, count)]
    return Heat(edges, flat)


def heat_row(slot: int) -> int:
    """The row that a bucket of the histogram belongs to; what is below its range counts into the lowest."""
    return max(0, slot - FIRST) // _SLOTS_A_ROW


def _edge(row: int) -> float:
    return bounds(FIRST + row * _SLOTS_A_ROW)[0]


_SLOTS_A_ROW = PER_OCTAVE // OCTAVE_ROWS


def amount(value: float, unit: str) -> str:
    """A value with its unit, for a sentence: three significant digits."""
    if unit == "ms":
        if value >= 1000:
            return f"{value / 1000:.3g} s"
        return f"{value:.3g} ms" if value >= 0.01 else f"{value * 1000:.3g} µs"
    if unit.startswith("bytes"):
        for name in ("B", "KB", "MB", "GB", "TB"):
            if value < 1000 or name == "TB":
                return f"{value:.3g} {name}{unit[5:]}"
            value /= 1000
    if unit == "1":
        return f"{value * 100:.3g} %"
    if unit.startswith("USD"):
        return f"${value:.3g}{unit[3:].replace('/', ' an ').replace('an h', 'an hour')}"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}".rstrip()


def _key(metric: str, labels: Labels) -> _Key:
    return metric, tuple(sorted(labels.items()))


def _is_told(values: Column) -> bool:
    return any(value is not None for value in values)


def _mean(values: Column) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def _short(value: float | None) -> float | None:
    """Five significant digits: what a page can show, in half of the bytes."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")
