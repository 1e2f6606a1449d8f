"""What the dashboard draws, as one table: tiles and charts, and how each line is read from the metrics.

It holds no numbers and knows no page: `series` and `frame` fill it, whoever draws it asks for it.
"""

from typing import Literal

from msgspec import Struct

from slipstream.core.metrics import METRICS, Metric
from slipstream.core.tile import Tile, unit_of

Stat = Literal["p50", "p95", "p99", "rate", "average", "ratio"]
"""How a line is read: a quantile of a histogram, a counter a second, a gauge's mean, or a derived share."""

QUANTILES: dict[str, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
LINES_BY_LABEL_MAX = 6
"""Most lines that one label makes: those with the most come first."""


class Line(Struct, frozen=True):
    """One line of a chart.

    Attributes:
        label: its name in the legend; with `by`, the value of the label stands there.
        metric: what is read.
        stat: how it is read.
        labels: which of its series; empty: all.
        by: a label of the metric: one line for each of its values.
        factor: what the value is multiplied with.
    """

    label: str
    metric: str
    stat: Stat
    labels: dict[str, str] = {}
    by: str = ""
    factor: float = 1.0


class Chart(Struct, frozen=True):
    """One chart.

    Attributes:
        id: its name in addresses and in the page.
        title: for people.
        unit: of all its lines: `ms`, `%`, `tokens/s`, `bytes/s` …
        section: the part of the page that it stands in.
        about: one sentence on what it shows.
        lines: what is drawn.
        optional: shown only where there is data, because the part that it tells of may be off.
        drawn: as lines over time, or as a heat map of how many values fell where.
    """

    id: str
    title: str
    unit: str
    section: str
    about: str
    lines: tuple[Line, ...]
    optional: bool = False
    drawn: Literal["lines", "heat"] = "lines"


def _quantiles(metric: str, *stats: Stat, labels: dict[str, str] | None = None) -> tuple[Line, ...]:
    return tuple(Line(stat, metric, stat, labels or {}) for stat in stats)


_OWN_AND_MACHINE = "The server's processes, of what they may use; and the machine."
_GATEWAY = {"source": "gateway"}

TILES: tuple[Tile, ...] = (
    Tile("Response time", "response_time", "ms"),
    Tile("CPU", "cpu_usage", "%"),
    Tile("Memory", "memory_usage", "%"),
    Tile("Token throughput", "token_throughput", "tokens/s"),
    Tile("Requests", "throughput", "requests/s"),
    Tile("Errors", "error_rate", "%"),
    Tile("First token", "ttft", "ms"),
    Tile("In flight", "in_flight", "requests"),
    Tile("Cost", "cost_rate", "USD/h"),
    Tile("Cache hits", "cache_hit_rate", "1"),
)
"""The guide's four first."""

CHARTS: tuple[Chart, ...] = (
    Chart(
        "response_time",
        "Response time",
        "ms",
        "overview",
        "From arrival to the last byte.",
        _quantiles("response_time", "p50", "p95", "p99"),
    ),
    Chart(
        "cpu",
        "CPU",
        "%",
        "overview",
        _OWN_AND_MACHINE,
        (Line("server", "cpu_usage", "average"), Line("machine", "cpu_usage_host", "average")),
    ),
    Chart(
        "memory",
        "Memory",
        "%",
        "overview",
        _OWN_AND_MACHINE,
        (Line("server", "memory_usage", "average"), Line("machine", "memory_usage_host", "average")),
    ),
    Chart(
        "token_throughput",
        "Token throughput",
        "tokens/s",
        "overview",
        "Tokens that models wrote and read.",
        (
            Line("written", "tokens_output", "rate"),
            Line("read", "tokens_input", "rate"),
            Line("read from cache", "tokens_cached", "rate"),
        ),
    ),
    Chart(
        "heat",
        "Where response times lie",
        "ms",
        "latency",
        "The stronger the colour, the more requests. Click to see them.",
        (Line("requests", "response_time", "p50"),),
        drawn="heat",
    ),
    Chart(
        "ttft",
        "Time to first token",
        "ms",
        "latency",
        "From arrival to the first token.",
        _quantiles("ttft", "p50", "p95", "p99"),
    ),
    Chart(
        "itl",
        "Inter-token latency",
        "ms",
        "latency",
        "Mean time between two tokens of an answer.",
        _quantiles("itl", "p50", "p95", "p99"),
    ),
    Chart(
        "overhead",
        "What Slipstream adds",
        "ms",
        "latency",
        "All up to the first byte but the model's own time.",
        (*_quantiles("gateway_overhead", "p50", "p95"), Line("waiting, p95", "queue_wait", "p95")),
    ),
    Chart(
        "throughput",
        "Requests",
        "requests/s",
        "traffic",
        "Requests that ended, by how.",
        (Line("", "outcomes", "rate", by="outcome"),),
    ),
    Chart(
        "in_flight",
        "In flight",
        "requests",
        "traffic",
        "Requests that are being answered.",
        (Line("in flight", "in_flight", "average"),),
    ),
    Chart(
        "oldest",
        "Oldest request in flight",
        "ms",
        "traffic",
        "A hung request shows here before it ends.",
        (Line("oldest", "oldest_in_flight", "average"),),
    ),
    Chart(
        "errors",
        "Errors",
        "requests/s",
        "traffic",
        "Failed requests, by type.",
        (Line("", "errors", "rate", by="error_type"),),
        optional=True,
    ),
    Chart(
        "refusals",
        "Refusals",
        "requests/s",
        "traffic",
        "Requests refused, by the limit that refused them.",
        (Line("", "refusals", "rate", by="limit"),),
        optional=True,
    ),
    Chart(
        "models_latency",
        "Response time by model",
        "ms",
        "models",
        "p95 of each model.",
        (Line("", "response_time", "p95", _GATEWAY, by="model"),),
    ),
    Chart(
        "models_tokens",
        "Tokens by model",
        "tokens/s",
        "models",
        "Tokens that each model wrote.",
        (Line("", "tokens_output", "rate", by="model"),),
    ),
    Chart(
        "upstream_time",
        "Upstreams' own time",
        "ms",
        "models",
        "p95 of the time to their first byte.",
        (Line("", "upstream_time", "p95", by="upstream"),),
        optional=True,
    ),
    Chart(
        "upstream_waiting",
        "Waiting in upstreams",
        "requests",
        "models",
        "What they say of their own queues.",
        (Line("", "upstream_waiting", "average", by="upstream"),),
        optional=True,
    ),
    Chart(
        "kv_cache",
        "KV cache of upstreams",
        "%",
        "models",
        "How full they say it is.",
        (Line("", "upstream_kv_cache_usage", "average", by="upstream"),),
        optional=True,
    ),
    Chart(
        "cost",
        "Cost",
        "USD/h",
        "cost",
        "Of the requests whose price is known, by model.",
        (Line("", "cost", "rate", by="model", factor=3600.0),),
        optional=True,
    ),
    Chart(
        "cost_unknown",
        "Requests without a price",
        "requests/s",
        "cost",
        "Their cost is unknown, not zero.",
        (Line("", "cost_unknown", "rate", by="model"),),
        optional=True,
    ),
    Chart(
        "cache_hit_rate",
        "Cache hits",
        "1",
        "cost",
        "Share of lookups that found an answer.",
        (Line("hits", "cache_hit_rate", "ratio"),),
        optional=True,
    ),
    Chart(
        "app",
        "Your program",
        "ms",
        "traffic",
        "What measure_response_time measured.",
        _quantiles("response_time", "p50", "p95", labels={"source": "app"}),
        optional=True,
    ),
    Chart(
        "disk",
        "Disk",
        "bytes/s",
        "resources",
        "Bytes read and written by the server's processes.",
        (
            Line("read", "disk_read_bytes", "rate", {"scope": "process"}),
            Line("written", "disk_written_bytes", "rate", {"scope": "process"}),
        ),
    ),
    Chart(
        "network",
        "Network",
        "bytes/s",
        "resources",
        "Bytes of the whole machine.",
        (Line("received", "network_received_bytes", "rate"), Line("sent", "network_sent_bytes", "rate")),
    ),
    Chart(
        "memory_bytes",
        "Resident memory",
        "bytes",
        "resources",
        "Of the server's processes.",
        (Line("resident", "memory_bytes", "average"),),
    ),
    Chart(
        "loop_lag",
        "Event loop lag",
        "ms",
        "resources",
        "How late the loops run; p95 by process.",
        (Line("", "loop_lag", "p95", by="process"),),
    ),
    Chart(
        "gc",
        "Garbage collection",
        "ms",
        "resources",
        "Pauses, p99 by process.",
        (Line("", "gc_pause", "p99", by="process"),),
        optional=True,
    ),
    Chart(
        "gpu",
        "GPU",
        "%",
        "resources",
        "How busy each is.",
        (Line("", "gpu_usage", "average", by="gpu"),),
        optional=True,
    ),
    Chart(
        "monitor",
        "What measuring costs",
        "ms",
        "resources",
        "Recording the metrics of one request.",
        _quantiles("monitor_overhead", "p50", "p95"),
        optional=True,
    ),
)
"""Everything that is drawn, in the order of the page."""

SECTIONS: dict[str, str] = {
    "overview": "Overview",
    "latency": "Latency",
    "traffic": "Traffic",
    "models": "Models",
    "cost": "Cost and cache",
    "resources": "Resources",
    "own": "Added",
}
"""The parts of the page with their headings, in order."""


def reading_of(metric: Metric) -> Stat:
    """How a metric is read where nobody says how: as a bare condition on it would."""
    if metric.kind == "histogram":
        return "p95"
    if metric.kind == "gauge":
        return "average"
    return "ratio" if metric.kind == "derived" and metric.over[1] else "rate"


def chart_of(tile: Tile) -> Chart | None:
    """The chart of a tile that somebody added; None where one of ours shows the metric already."""
    metric = METRICS[tile.metric]
    name = metric.over[0] if metric.kind == "derived" and not metric.over[1] else metric.name
    if any(line.metric == name for chart in CHARTS for line in chart.lines):
        return None
    stat = reading_of(metric)
    line = Line(stat if stat in QUANTILES else metric.name, name, stat)
    return Chart(f"own_{tile.metric}", tile.title, unit_of(metric), "own", metric.help, (line,))
