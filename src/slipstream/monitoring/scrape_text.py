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


class _Ratio(Struct, frozen=True):
    """A gauge of ours that is the quotient of two counters of theirs, between two looks."""

    gauge: str
    above: tuple[str, ...]
    below: tuple[str, ...]
    factor: float = 1.0
    most: float = math.inf


_RATIOS = (
    _Ratio(
        "upstream_prefix_cache_hit_rate",
        ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits_total"),
        (
            "vllm:prefix_cache_queries_total",
            "vllm:prefix_cache_queries",
            "vllm:gpu_prefix_cache_queries_total",
        ),
        most=1.0,
    ),
    _Ratio(
        "upstream_queue_time",
        ("vllm:request_queue_time_seconds_sum",),
        ("vllm:request_queue_time_seconds_count",),
        1000.0,
    ),
    _Ratio(
        "upstream_prefill_time",
        ("vllm:request_prefill_time_seconds_sum",),
        ("vllm:request_prefill_time_seconds_count",),
        1000.0,
    ),
)
GAUGES = (*(each.gauge for each in _GAUGES), *(each.gauge for each in _RATIOS))
"""Our gauges that an upstream may tell."""


class Scraped(Struct, frozen=True):
    """One look at an upstream: our gauges that it tells, and the pairs of counters behind the others."""

    gauges: dict[str, float]
    counters: dict[str, tuple[float, float]] = {}

    def since(self, before: "Scraped | None") -> dict[str, float]:
        """All gauges; the quotients since an earlier look, without one since the upstream's start."""
        told = dict(self.gauges)
        for ratio in _RATIOS:
            above, below = self.counters.get(ratio.gauge, (0.0, 0.0))
            past_above, past_below = before.counters.get(ratio.gauge, (0.0, 0.0)) if before else (0.0, 0.0)
            if above < past_above or below < past_below:  # it was started anew
                past_above = past_below = 0.0
            if below > past_below:
                told[ratio.gauge] = min(
                    ratio.most, (above - past_above) / (below - past_below) * ratio.factor
                )
        return told


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
    counters = {
        ratio.gauge: (sum(above), sum(below))
        for ratio in _RATIOS
        if (above := _first(found, ratio.above)) and (below := _first(found, ratio.below))
    }
    return Scraped(gauges, counters) if gauges or counters else None


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
