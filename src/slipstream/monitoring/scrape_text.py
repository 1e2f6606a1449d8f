"""What vLLM and llama.cpp tell of themselves in Prometheus' text, as our gauges. Pure.

Names: vllm/v1/metrics/loggers.py and llama.cpp's tools/server. What is not known is left out.
"""

import math
import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

LINES_MAX = 100_000
"""Lines of one answer that are read."""

_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{.*\})?[ \t]+([^ \t]+)(?:[ \t]+-?\d+)?[ \t]*")


class _Source(Struct, frozen=True):
    """Where a gauge of ours comes from."""

    gauge: str
    names: tuple[str, ...]
    """The first one that is there counts; newer names stand first."""
    factor: float = 1.0
    is_level: bool = False
    """Of several engines the fullest counts; else they are added up."""


_GAUGES = (
    _Source("upstream_running", ("vllm:num_requests_running", "llamacpp:requests_processing")),
    _Source("upstream_waiting", ("vllm:num_requests_waiting", "llamacpp:requests_deferred")),
    _Source(
        "upstream_kv_cache_usage",
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "llamacpp:kv_cache_usage_ratio"),
        100.0,
        is_level=True,
    ),
    _Source("upstream_preemptions", ("vllm:num_preemptions_total", "vllm:num_preemptions")),
)
_HITS = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits_total")
_QUERIES = (
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_queries",
    "vllm:gpu_prefix_cache_queries_total",
)
HIT_RATE = "upstream_prefix_cache_hit_rate"
GAUGES = (*(each.gauge for each in _GAUGES), HIT_RATE)
"""Our gauges that an upstream may tell."""


class Scraped(Struct, frozen=True):
    """One look at an upstream: our gauges that it tells, and the two counts behind its hit rate."""

    gauges: dict[str, float]
    hits: float | None = None
    queries: float | None = None

    def since(self, before: "Scraped | None") -> dict[str, float]:
        """The gauges, with the hit rate since an earlier look (since its start without one)."""
        if self.hits is None or self.queries is None:
            return self.gauges
        past_hits, past_queries = 0.0, 0.0
        if before is not None and before.hits is not None and before.queries is not None:
            past_hits, past_queries = before.hits, before.queries
        if self.hits < past_hits or self.queries < past_queries:  # it was started anew
            past_hits, past_queries = 0.0, 0.0
        queries = self.queries - past_queries
        if queries <= 0:
            return self.gauges
        return {**self.gauges, HIT_RATE: min(1.0, (self.hits - past_hits) / queries)}


def scraped(text: str) -> Scraped | None:
    """What a page of metrics tells of an upstream; None where it knows none of the names."""
    found: dict[str, list[float]] = {}
    for name, value in samples(text):
        found.setdefault(name, []).append(value)
    gauges: dict[str, float] = {}
    for source in _GAUGES:
        values = _first(found, source.names)
        if values:
            gauges[source.gauge] = (max(values) if source.is_level else sum(values)) * source.factor
    hits, queries = _first(found, _HITS), _first(found, _QUERIES)
    if not gauges and not queries:
        return None
    return Scraped(gauges, sum(hits) if hits else None, sum(queries) if queries else None)


def samples(text: str) -> Iterator[tuple[str, float]]:
    """Name and value of every sample, labels left out; a line that is none is skipped."""
    for number, line in enumerate(text.splitlines()):
        if number >= LINES_MAX:
            return
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        if math.isfinite(value) and value >= 0:
            yield match[1], value


def _first(found: Mapping[str, list[float]], names: tuple[str, ...]) -> list[float]:
    return next((found[name] for name in names if name in found), [])
