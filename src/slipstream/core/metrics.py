"""Every metric of the product, declared in one table, also those of parts that may be off.

Whoever records, reads, exports or draws a number finds its name, unit and labels here, and nothing else
may be recorded. A label has a bounded number of values: beyond it they are counted as `__other__`.
"""

import hashlib
from typing import Literal

from msgspec import Struct

from slipstream.core import histogram
from slipstream.core.meters import NAMES

Kind = Literal["counter", "gauge", "histogram", "derived"]

OTHER = "__other__"
"""The value of every label of the series that takes what found no room."""
LABEL_LENGTH_MAX = 64
"""Longer label values are cut."""
SERIES_MAX = 64
"""Most label sets of a counter or gauge, in one slab."""
SKETCH_SERIES_MAX = 16
"""Most label sets of a histogram, in one slab; also how many sketch series are stored."""

NS_PER_MS = 1e6
_NOT_ADDED = frozenset({"%", "ms", "°C"})


class Metric(Struct, frozen=True):
    """What is known of a metric.

    Attributes:
        name: ours; exports add prefix and unit.
        kind: a counter only grows; a gauge is what it is now; a histogram holds values of which quantiles
            are asked; a derived one is computed from counters, the same way by every reader.
        unit: what readers are shown: `ms`, `%`, `bytes`, `tokens`, `USD`, `requests/s`, `1` is a share;
            empty for a plain number.
        help: one sentence.
        labels: names of its labels.
        scale: of a histogram: how many of what is stored make one `unit`.
        over: of a derived one: numerator and denominator; without a denominator it is a rate a second.
        factor: of a derived one: what the quotient is multiplied with.
        combine: of a gauge: what several series or processes make together.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    scale: float = 1.0
    over: tuple[str, str] = ("", "")
    factor: float = 1.0
    combine: Literal["sum", "max"] = "sum"

    @property
    def series_max(self) -> int:
        """Most label sets in one slab."""
        return SKETCH_SERIES_MAX if self.kind == "histogram" else SERIES_MAX


def _counter(name: str, unit: str, text: str, *labels: str) -> Metric:
    return Metric(name, "counter", unit, text, labels)


def _gauge(name: str, unit: str, text: str, *labels: str) -> Metric:
    return Metric(name, "gauge", unit, text, labels, combine="max" if unit in _NOT_ADDED else "sum")


def _times(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, "histogram", "ms", text, labels, scale=NS_PER_MS)


def _sizes(name: str, unit: str, text: str, *labels: str) -> Metric:
    return Metric(name, "histogram", unit, text, labels, scale=histogram.TINY)


def _derived(name: str, unit: str, text: str, over: tuple[str, str], factor: float = 1.0) -> Metric:
    labels = next(metric.labels for metric in _RECORDED if metric.name == over[0])
    return Metric(name, "derived", unit, text, labels, over=over, factor=factor)


_REQUESTS = (
    _counter("requests", "requests", "Requests that ended, in whatever way.", "route", "model", "upstream"),
    _counter("outcomes", "requests", "Requests by how they ended: served, refused, …", "outcome"),
    _counter(
        "errors",
        "requests",
        "Requests that failed: the server or the model is at fault.",
        "error_type",
        "model",
        "upstream",
    ),
    _counter("refusals", "requests", "Requests refused, by what refused them.", "limit"),
    _times(
        "response_time",
        "Arrival to the last byte; source `app`: measured by the user's program.",
        "source",
        "model",
    ),
    _times("ttft", "Arrival to the first token.", "model"),
    _times("itl", "Mean time between tokens, one value a request.", "model"),
    _times("gateway_overhead", "What Slipstream added up to the first byte: all but waiting for the model."),
    _times("queue_wait", "Waiting for room or for an upstream; only requests that waited."),
    _times("upstream_time", "The model's own time to its first byte, last attempt.", "upstream"),
    _gauge("in_flight", "requests", "Requests that are being answered."),
    _gauge("oldest_in_flight", "ms", "How long the oldest of them has been running; a hung one counts."),
    _counter("request_bytes", "bytes", "Bytes of request bodies."),
    _counter("response_bytes", "bytes", "Bytes of answers."),
    _counter("tokens_input", "tokens", "Prompt tokens.", "model"),
    _counter("tokens_output", "tokens", "Generated tokens.", "model"),
    _counter("tokens_cached", "tokens", "Prompt tokens that the model's own cache held.", "model"),
    _sizes("prompt_length", "tokens", "Prompt tokens of a request.", "model"),
    _sizes("answer_length", "tokens", "Generated tokens of a request.", "model"),
    _counter("cost", "USD", "Cost of the requests whose price is known.", "model"),
    _counter("cost_unknown", "requests", "Requests with tokens whose price is not known.", "model"),
    _counter("app_calls", "calls", "Calls measured by the user's program.", "name"),
    _counter("app_errors", "calls", "Calls measured by the user's program that raised.", "name"),
)

_PARTS = (
    _counter("cache_lookups", "lookups", "Lookups in the response cache.", "cache"),
    _counter("cache_hits", "lookups", "Lookups that found an entry that may be served.", "cache"),
    _counter("cache_stores", "entries", "Entries stored.", "cache"),
    _counter("cache_evictions", "entries", "Entries dropped for room or age.", "cache"),
    _counter("cache_tokens_saved", "tokens", "Tokens that hits did not cost.", "cache"),
    _gauge("cache_entries", "entries", "Entries now.", "cache"),
    _gauge("cache_bytes", "bytes", "Bytes of the entries now.", "cache"),
    _times("cache_lookup_time", "Time of a lookup.", "cache"),
    _counter("limiter_allowed", "requests", "Requests that a limit let pass.", "limit"),
    _counter("limiter_refused", "requests", "Requests that a limit refused.", "limit"),
    _gauge("limiter_used", "%", "How much of a limit is used.", "limit"),
    _gauge("concurrency_limit", "requests", "Requests that may be under way at once.", "limit"),
    _gauge("queue_length", "requests", "Requests that wait for room.", "limit"),
    _gauge("pool_in_use", "", "Items of a pool that are in use.", "pool"),
    _gauge("pool_idle", "", "Items of a pool that are free.", "pool"),
    _gauge("pool_waiting", "", "Those that wait for an item.", "pool"),
    _counter("pool_acquired", "", "Items handed out.", "pool"),
    _counter("pool_timeouts", "", "Waits for an item that were given up.", "pool"),
    _counter("pool_leaked", "", "Items that were never given back.", "pool"),
    _times("pool_wait", "Waiting for an item.", "pool"),
    _counter("batches", "batches", "Batches processed.", "batch"),
    _counter("batch_items", "items", "Items processed in batches.", "batch"),
    _counter("batch_failures", "items", "Items that failed in a batch.", "batch"),
    _times("batch_wait", "Waiting for a batch to fill.", "batch"),
    _sizes("batch_size", "items", "Items of a batch.", "batch"),
    _counter("tokens_trimmed", "tokens", "Prompt tokens that the optimiser removed."),
    _counter("selections", "requests", "Models chosen by the selector.", "model"),
    _counter("queries", "queries", "Queries of the user's database.", "database"),
    _counter("query_errors", "queries", "Queries that failed.", "database"),
    _times("query_time", "Time of a query.", "database"),
    _counter("shed", "requests", "Requests turned away under overload.", "limit"),
)

_RESOURCES = (
    _gauge("cpu_usage", "%", "CPU of the server's process tree, of what it may use."),
    _gauge("cpu_usage_host", "%", "CPU of the whole machine."),
    _gauge("memory_usage", "%", "Memory of the server's process tree, of what it may use."),
    _gauge("memory_usage_host", "%", "Memory of the whole machine."),
    _gauge("memory_bytes", "bytes", "Resident memory of the server's process tree."),
    _gauge("memory_limit_bytes", "bytes", "Memory that it may use: the cgroup's limit or the machine's."),
    _gauge("cpu_limit", "cores", "Cores that it may use: the cgroup's quota or the machine's."),
    _gauge("cpu_throttled", "%", "Share of the scheduling periods in which the cgroup's quota held it up."),
    _counter("disk_read_bytes", "bytes", "Bytes read from disks.", "scope"),
    _counter("disk_written_bytes", "bytes", "Bytes written to disks.", "scope"),
    _gauge("disk_usage", "%", "How full the disk of the data folder is."),
    _counter("network_sent_bytes", "bytes", "Bytes sent over the network by the machine."),
    _counter("network_received_bytes", "bytes", "Bytes received over the network by the machine."),
    _gauge("open_files", "", "Open descriptors of the server's process tree."),
    _gauge("threads", "", "Threads of the server's process tree."),
    _gauge("processes", "", "Processes of the server's process tree."),
    _gauge("gpu_usage", "%", "How busy a GPU is.", "gpu"),
    _gauge("gpu_memory_usage", "%", "Memory of a GPU in use.", "gpu"),
    _gauge("gpu_memory_bytes", "bytes", "Memory of a GPU in use.", "gpu"),
    _gauge("gpu_power", "W", "Power that a GPU draws.", "gpu"),
    _gauge("gpu_temperature", "°C", "Temperature of a GPU.", "gpu"),
    _times("loop_lag", "How late the event loop of a process runs.", "process"),
    _counter("loop_stalls", "stalls", "Times that the event loop of a process was held up.", "process"),
    _counter("loop_stalled", "ms", "How long the event loop of a process was held up, in all.", "process"),
    _counter("stall_looks_failed", "", "Looks at a held-up event loop that failed.", "process"),
    _times("gc_pause", "Pauses for Python's garbage collection.", "process"),
)

_UPSTREAMS = (
    _gauge("upstream_running", "requests", "Requests that the upstream says it runs.", "upstream"),
    _gauge("upstream_waiting", "requests", "Requests that the upstream says wait.", "upstream"),
    _gauge("upstream_kv_cache_usage", "%", "How full the upstream's KV cache is.", "upstream"),
    _gauge("upstream_prefix_cache_hit_rate", "1", "Share of prompt tokens that its cache held.", "upstream"),
    _gauge("upstream_queue_time", "ms", "Mean wait in the upstream's own queue, last look.", "upstream"),
    _gauge("upstream_prefill_time", "ms", "Mean time of the upstream's prefill, last look.", "upstream"),
    _gauge("upstream_preemptions", "", "Requests that the upstream has set back for memory.", "upstream"),
    _gauge("upstream_healthy", "", "1 where it takes requests, 0 where its breaker is open.", "upstream"),
    _counter("upstream_scrape_errors", "", "Scrapes of an upstream's metrics that failed.", "upstream"),
)

_OURSELVES = (
    _times("monitor_overhead", "What recording a request's metrics costs."),
    _counter("metrics_refused", "", "Values that were not recorded: negative, not a number, not declared."),
    _counter("label_sets_refused", "", "New label sets that found no room and went to `__other__`."),
    _counter("slabs_lost", "", "Slabs that could not be claimed or read; their values are missing."),
    _counter("series_points_dropped", "", "Points of time series that could not be stored."),
    _counter("clock_steps", "", "Jumps of the wall clock that were seen."),
    _counter("resource_errors", "", "Looks at the machine's use that it refused; unknown meanwhile."),
    _counter("live_viewers_dropped", "", "Viewers of the live stream dropped for being too slow."),
    _counter("alerts_fired", "alerts", "Alerts that began to fire.", "severity"),
    _counter("alerts_delivered", "messages", "Alert messages delivered.", "receiver"),
    _counter("alerts_dead", "messages", "Alert messages given up, kept to be looked at.", "receiver"),
    _counter("alert_errors", "", "Evaluations of a condition that failed."),
    _counter("export_errors", "", "Exports of metrics or traces that failed.", "exporter"),
    _counter("export_dropped", "requests", "Requests whose trace was given up.", "exporter"),
    _gauge("alerts_firing", "alerts", "Alerts that are firing now.", "severity"),
    _gauge("series_bytes", "bytes", "Size of the stored time series."),
    _gauge("series_bytes_limit", "bytes", "Size at which the oldest points are dropped."),
)

COUNTER_METRIC = {"requests": "requests_begun"}
"""Counts of `core.meters` that go by another name here, because they count something else."""

_COUNTS = tuple(
    _counter(COUNTER_METRIC.get(name, name), "", f"{text[0].upper()}{text[1:]}.")
    for name, text in NAMES.items()
)
_RECORDED = (*_REQUESTS, *_PARTS, *_RESOURCES, *_UPSTREAMS, *_OURSELVES, *_COUNTS)

_DERIVED = (
    _derived("throughput", "requests/s", "Requests that ended, a second.", ("requests", "")),
    _derived("token_throughput", "tokens/s", "Generated tokens a second.", ("tokens_output", "")),
    _derived("error_rate", "%", "Failed requests of all.", ("errors", "requests"), 100.0),
    _derived("cache_hit_rate", "1", "Cache lookups that hit.", ("cache_hits", "cache_lookups")),
    _derived("cost_rate", "USD/s", "Cost a second.", ("cost", "")),
    _derived("disk_read_rate", "bytes/s", "Bytes read a second.", ("disk_read_bytes", "")),
    _derived("disk_write_rate", "bytes/s", "Bytes written a second.", ("disk_written_bytes", "")),
    _derived("network_send_rate", "bytes/s", "Bytes sent a second.", ("network_sent_bytes", "")),
    _derived("network_receive_rate", "bytes/s", "Bytes received a second.", ("network_received_bytes", "")),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_RECORDED, *_DERIVED)}
"""All of them, by name."""

INDEX: dict[str, int] = {metric.name: number for number, metric in enumerate(_RECORDED)}
"""The number by which a slab calls a metric that is recorded."""

RECORDED: tuple[Metric, ...] = _RECORDED
"""Those that are recorded, by their number."""


def _schema_hash() -> bytes:
    told = [f"{each.name}:{each.kind}:{','.join(each.labels)}:{each.scale!r}" for each in _RECORDED]
    layout = f"{histogram.SCALE}:{histogram.WHOLE:g}:{histogram.FIRST_POWER}:{histogram.LAST_POWER}"
    return hashlib.sha256("\n".join([layout, *told]).encode()).digest()[:16]


SCHEMA_HASH: bytes = _schema_hash()
"""Stands in every slab: one that was laid out for other metrics is not read."""
