"""What is told at a glance, computed the same way wherever it is asked: in the server, from outside, alone.

Windows and units stand with every field; what nothing was seen of is None, never 0.
"""

from collections.abc import Mapping
from typing import TypeVar

from msgspec import Struct

from slipstream.core.metrics import OTHER
from slipstream.core.readings import Labels, Readings, derived

Seen = TypeVar("Seen")

CPU_SECONDS = 10.0
RATE_SECONDS = 10.0
LATENCY_SECONDS = 60.0
CACHE_SECONDS = 300.0


class Share(Struct, frozen=True):
    """Percent of what the process tree may use, and of the whole machine."""

    own: float | None = None
    host: float | None = None


class Transfer(Struct, frozen=True):
    """Bytes both ways: inward is read or received, outward is written or sent."""

    inward_per_second: float
    outward_per_second: float
    inward_total: int
    outward_total: int


class Tokens(Struct, frozen=True):
    """Tokens since the server began. `cost` in US dollars, of the requests whose price is known."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cost: float | None = None
    unpriced_requests: int = 0
    """Requests with tokens whose price is not known: they are not in `cost`."""

    @property
    def total(self) -> int:
        """Input and output together; cached ones are part of the input."""
        return self.input + self.output


class Times(Struct, frozen=True):
    """Milliseconds of what ended within the last minute."""

    p50: float
    p95: float
    p99: float
    mean: float
    count: int


class Summary(Struct, frozen=True):
    """All of it at one moment.

    Attributes:
        wall_ns: up to when it tells.
        source: `server`, or `process` where no server lives.
        cpu, memory: percent; CPU averages 10 s, memory is now.
        disk, disk_host, network_host: rates over 10 s, totals since the start.
        tokens, tokens_by_model: since the start.
        latency, latency_by_model: answers of models, last minute.
        app: what `measure_response_time` measured, last minute.
        throughput: requests a second, last minute.
        token_throughput: output tokens a second, last minute.
        error_rate: percent of requests, last 5 minutes.
        cache_hit_rate: 0..1, last 5 minutes.
        in_flight: requests under way.
        oldest_in_flight: for how many milliseconds the oldest of them has been.
    """

    wall_ns: int
    source: str
    cpu: Share = Share()
    memory: Share = Share()
    disk: Transfer | None = None
    disk_host: Transfer | None = None
    network_host: Transfer | None = None
    tokens: Tokens | None = None
    tokens_by_model: dict[str, Tokens] = {}
    latency: Times | None = None
    latency_by_model: dict[str, Times] = {}
    app: Times | None = None
    throughput: float | None = None
    token_throughput: float | None = None
    error_rate: float | None = None
    cache_hit_rate: float | None = None
    in_flight: float | None = None
    oldest_in_flight: float | None = None


def summarize(readings: Readings, source: str) -> Summary:
    """Everything that `readings` tells at a glance."""
    models = _models(readings)
    times = {model: _times(readings, {"source": "gateway", "model": model}) for model in models}
    tokens = {model: _tokens(readings, {"model": model}) for model in models}
    return Summary(
        wall_ns=readings.now_wall_ns(),
        source=source,
        cpu=Share(_average(readings, "cpu_usage"), _average(readings, "cpu_usage_host")),
        memory=Share(readings.gauge("memory_usage", {}), readings.gauge("memory_usage_host", {})),
        disk=_transfer(readings, "disk_read_bytes", "disk_written_bytes", {"scope": "process"}),
        disk_host=_transfer(readings, "disk_read_bytes", "disk_written_bytes", {"scope": "host"}),
        network_host=_transfer(readings, "network_received_bytes", "network_sent_bytes", {}),
        tokens=_tokens(readings, {}),
        tokens_by_model=_seen(tokens),
        latency=_times(readings, {"source": "gateway"}),
        latency_by_model=_seen(times),
        app=_times(readings, {"source": "app"}),
        throughput=derived(readings, "throughput", {}, LATENCY_SECONDS),
        token_throughput=derived(readings, "token_throughput", {}, LATENCY_SECONDS),
        error_rate=derived(readings, "error_rate", {}, CACHE_SECONDS),
        cache_hit_rate=derived(readings, "cache_hit_rate", {}, CACHE_SECONDS),
        in_flight=readings.gauge("in_flight", {}),
        oldest_in_flight=readings.gauge("oldest_in_flight", {}),
    )


def _models(readings: Readings) -> list[str]:
    """The models that were asked, by name; what found no room of its own is one of them."""
    sets = [*readings.label_sets("response_time"), *readings.label_sets("tokens_output")]
    names = {labels["model"] for labels in sets}
    return sorted(names - {"", OTHER}) + [OTHER] * (OTHER in names)


def _seen(found: Mapping[str, Seen | None]) -> dict[str, Seen]:
    return {name: value for name, value in found.items() if value is not None}


def _average(readings: Readings, gauge: str) -> float | None:
    stats = readings.gauge_stats(gauge, {}, CPU_SECONDS)
    return None if stats is None else stats.average


def _transfer(readings: Readings, inward: str, outward: str, labels: Labels) -> Transfer | None:
    come, gone = readings.total(inward, labels), readings.total(outward, labels)
    if come is None and gone is None and readings.gauge("processes", {}) is None:
        return None  # nobody has looked; who has looked and saw nothing move tells zeros
    return Transfer(
        readings.rate(inward, labels, RATE_SECONDS) or 0.0,
        readings.rate(outward, labels, RATE_SECONDS) or 0.0,
        int(come or 0),
        int(gone or 0),
    )


def _tokens(readings: Readings, labels: Labels) -> Tokens | None:
    names = ("tokens_input", "tokens_output", "tokens_cached", "cost", "cost_unknown")
    given, made, cached, cost, unpriced = (readings.total(name, labels) for name in names)
    if not given and not made:
        return None
    known = cost if cost or not unpriced else None  # 0 dollars of nothing priced is not a cost of 0
    return Tokens(int(given or 0), int(made or 0), int(cached or 0), known, int(unpriced or 0))


def _times(readings: Readings, labels: Labels) -> Times | None:
    sketch = readings.sketch("response_time", labels, LATENCY_SECONDS)
    if sketch is None or not sketch.count:
        return None
    p50, p95, p99 = (sketch.quantile(q) or 0.0 for q in (0.5, 0.95, 0.99))
    return Times(p50, p95, p99, sketch.mean or 0.0, sketch.count)
