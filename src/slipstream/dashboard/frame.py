"""The newest second for those who watch: tiles, the last point of every line, models and upstreams.

Made once a second however many watch. Each number has the window that its field names.
"""

from collections.abc import Sequence

from msgspec import Struct

from slipstream.core.metrics import METRICS, OTHER, Metric
from slipstream.core.readings import Labels, Readings, derived
from slipstream.core.tile import Tile, factor_of
from slipstream.dashboard.charts import QUANTILES, Chart, Line
from slipstream.dashboard.series import QUANTILE_SECONDS, RATE_SECONDS, SECOND_NS

MINUTE = 60.0
GAUGE_SECONDS = 10.0
ERROR_SECONDS = 300.0
ROWS_MAX = 32
"""Most models and most upstreams that are told of."""


class TileNow(Struct, frozen=True):
    """A tile's number.

    Attributes:
        metric: which tile.
        value: in the tile's unit; None where nothing was seen.
        note: what the number is, in a few words.
    """

    metric: str
    value: float | None
    note: str


class ModelNow(Struct, frozen=True):
    """A model within the last minute; `tokens` and `cost` since the server began."""

    model: str
    rps: float | None
    p50: float | None
    p95: float | None
    ttft_p95: float | None
    tokens_per_second: float | None
    errors: float | None
    tokens: float | None
    cost: float | None


class UpstreamNow(Struct, frozen=True):
    """An upstream within the last minute. `healthy`: None where nobody says."""

    upstream: str
    rps: float | None
    time_p95: float | None
    errors: float | None
    healthy: bool | None


class Frame(Struct, frozen=True):
    """One second.

    Attributes:
        at: where it begins, seconds of the wall clock.
        tiles: the overview's numbers.
        lines: chart -> line -> its value within that second; a quantile's within the last 15, a rate's
            within the last 5.
        models, upstreams: rows of the tables.
        firing: alerts that fire now; None where nobody watches for any.
    """

    at: int
    tiles: list[TileNow]
    lines: dict[str, dict[str, float | None]]
    models: list[ModelNow]
    upstreams: list[UpstreamNow]
    firing: float | None


def frame(readings: Readings, tiles: Sequence[Tile], charts: Sequence[Chart]) -> Frame:
    """What `readings` tells now."""
    return Frame(
        at=(readings.now_wall_ns() - 1) // SECOND_NS,
        tiles=[tile_now(readings, tile) for tile in tiles],
        lines={chart.id: lines_now(readings, chart) for chart in charts if chart.drawn == "lines"},
        models=models_now(readings),
        upstreams=upstreams_now(readings),
        firing=readings.gauge("alerts_firing", {}),
    )


def tile_now(readings: Readings, tile: Tile) -> TileNow:
    """A tile's number in its unit, read as a bare condition on its metric would read it."""
    value, note = _reading(readings, METRICS[tile.metric])
    factor = factor_of(METRICS[tile.metric], tile.unit) or 1.0
    return TileNow(tile.metric, value if value is None else value * factor, note)


def _reading(readings: Readings, metric: Metric) -> tuple[float | None, str]:
    """The number of a metric in its own unit, and what it is."""
    if metric.kind == "histogram":
        sketch = readings.sketch(metric.name, {}, MINUTE)
        if sketch is None or not sketch.count:
            return None, "p95, last minute"
        return sketch.quantile(0.95), f"p95 of {sketch.count:,}, last minute"
    if metric.kind == "gauge":
        stats = readings.gauge_stats(metric.name, {}, GAUGE_SECONDS)
        return stats.average if stats is not None else None, "last 10 s"
    if metric.kind == "counter":
        return readings.rate(metric.name, {}, MINUTE), "last minute"
    seconds, told = (ERROR_SECONDS, "last 5 min") if metric.over[1] else (MINUTE, "last minute")
    return derived(readings, metric.name, {}, seconds), told


def lines_now(readings: Readings, chart: Chart) -> dict[str, float | None]:
    """The lines of a chart within the last second, by their labels."""
    told: dict[str, float | None] = {}
    for line in chart.lines:
        for label, labels in _lines(readings, line):
            told[label] = _value(readings, line, labels)
    return told


def models_now(readings: Readings) -> list[ModelNow]:
    """One row a model, the busiest first."""
    names = _values_of(readings, ("requests", "response_time"), "model")
    rows = [_model(readings, name) for name in names[:ROWS_MAX]]
    return sorted(rows, key=lambda row: (-(row.rps or 0.0), row.model))


def upstreams_now(readings: Readings) -> list[UpstreamNow]:
    """One row an upstream, by name."""
    names = _values_of(readings, ("requests", "upstream_healthy"), "upstream")
    return [_upstream(readings, name) for name in names[:ROWS_MAX]]


def _model(readings: Readings, name: str) -> ModelNow:
    labels = {"model": name}
    times = readings.sketch("response_time", {**labels, "source": "gateway"}, MINUTE)
    first = readings.sketch("ttft", labels, MINUTE)
    return ModelNow(
        model=name,
        rps=readings.rate("requests", labels, MINUTE),
        p50=times.quantile(0.5) if times else None,
        p95=times.quantile(0.95) if times else None,
        ttft_p95=first.quantile(0.95) if first else None,
        tokens_per_second=readings.rate("tokens_output", labels, MINUTE),
        errors=derived(readings, "error_rate", labels, MINUTE),
        tokens=readings.total("tokens_output", labels),
        cost=_cost(readings, labels),
    )


def _cost(readings: Readings, labels: Labels) -> float | None:
    """None rather than 0 where no price is known."""
    cost = readings.total("cost", labels)
    return cost if cost or not readings.total("cost_unknown", labels) else None


def _upstream(readings: Readings, name: str) -> UpstreamNow:
    labels = {"upstream": name}
    times = readings.sketch("upstream_time", labels, MINUTE)
    healthy = readings.gauge("upstream_healthy", labels)
    return UpstreamNow(
        upstream=name,
        rps=readings.rate("requests", labels, MINUTE),
        time_p95=times.quantile(0.95) if times else None,
        errors=derived(readings, "error_rate", labels, MINUTE),
        healthy=None if healthy is None else healthy > 0,
    )


def _lines(readings: Readings, line: Line) -> list[tuple[str, dict[str, str]]]:
    if not line.by:
        return [(line.label, line.labels)]
    return [
        (value, {**line.labels, line.by: value})
        for value in _values_of(readings, (METRICS[line.metric].name,), line.by)
    ]


def _value(readings: Readings, line: Line, labels: Labels) -> float | None:
    if line.stat in QUANTILES:
        sketch = readings.sketch(line.metric, labels, QUANTILE_SECONDS)
        return sketch.quantile(QUANTILES[line.stat]) if sketch is not None else None
    if line.stat == "average":
        stats = readings.gauge_stats(line.metric, labels, 1.0)
        return stats.average if stats is not None else None
    if line.stat == "ratio":
        return derived(readings, line.metric, labels, 1.0)
    rate = readings.rate(line.metric, labels, RATE_SECONDS)
    return rate * line.factor if rate is not None else None


def _values_of(readings: Readings, metrics: Sequence[str], label: str) -> list[str]:
    """The values of a label that were seen, what found no room last."""
    seen = {labels[label] for name in metrics for labels in readings.label_sets(name) if labels.get(label)}
    return sorted(seen, key=lambda value: (value == OTHER, value))
