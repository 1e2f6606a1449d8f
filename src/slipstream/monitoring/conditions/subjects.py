"""What a condition may ask of: every declared metric, with the aggregate, window and unit it has unless told.

A bare name means: a histogram its p95 over a minute, a counter its rate over a minute, a gauge in percent
its average over a minute, any other gauge its present value, a share its quotient over five minutes.
"""

import re

from msgspec import Struct

from slipstream.core.metrics import METRICS, Metric
from slipstream.monitoring.conditions.units import Dimension

MINIMUM_COUNT = 20
"""Fewest samples that a percentile or a share is taken of, unless a condition says otherwise."""

COUNTING = frozenset({"count"})
"""Aggregates whose value is a number, whatever the metric measures."""

ALIASES = {"increase": "delta", "median": "p50", "mean": "avg"}
_MEASURES: dict[str, tuple[Dimension, float]] = {
    "ms": ("time", 1e-3),
    "%": ("share", 0.01),
    "1": ("share", 1.0),
    "bytes": ("bytes", 1.0),
    "bytes/s": ("bytes", 1.0),
    "USD": ("money", 1.0),
    "USD/s": ("money", 1.0),
}
_PERCENTILE = re.compile(r"p(\d{2,5})", re.ASCII)
_RATIO_SECONDS, _WINDOW_SECONDS = 300, 60


class Subject(Struct, frozen=True):
    """A metric as conditions see it.

    Attributes:
        metric: its declaration.
        dimension: what it measures.
        factor: how much of the inside unit one of its own unit is.
        bare: how much of the inside unit a number without unit beside it is.
        aggregate: unless told.
        window_seconds: unless told; 0 = the present value.
    """

    metric: Metric
    dimension: Dimension
    factor: float
    aggregate: str
    window_seconds: int

    @property
    def bare(self) -> float:
        """How much of the inside unit a number without unit beside it is."""
        return self.factor

    @property
    def aggregates(self) -> tuple[str, ...]:
        """What may be asked of it; any `pNN` of a histogram too."""
        return {
            "histogram": ("p50", "p95", "p99", "avg", "min", "max", "sum", "count", "rate"),
            "counter": ("rate", "delta", "count"),
            "gauge": ("last", "avg", "min", "max"),
            "derived": ("value", "avg"),
        }[self.metric.kind]

    def allows(self, aggregate: str) -> bool:
        """Whether an aggregate has a meaning for it."""
        is_quantile = self.metric.kind == "histogram" and quantile(aggregate) is not None
        return is_quantile or aggregate in self.aggregates


def quantile(aggregate: str) -> float | None:
    """The share that `p95`, `p999` … stand for, below 1; None for other aggregates."""
    match = _PERCENTILE.fullmatch(aggregate)
    if match is None or not int(match[1]):
        return None
    return float(f"0.{match[1]}")


def _subject(metric: Metric) -> Subject:
    dimension, factor = _MEASURES.get(metric.unit, ("number", 1.0))
    aggregate, window = "value", _WINDOW_SECONDS
    match metric.kind:
        case "histogram":
            aggregate = "p95"
        case "counter":
            aggregate = "rate"
        case "gauge" if dimension == "share":
            aggregate = "avg"
        case "gauge":
            aggregate, window = "last", 0
        case "derived" if metric.over[1]:
            window = _RATIO_SECONDS
    return Subject(metric, dimension, factor, aggregate, window)


SUBJECTS: dict[str, Subject] = {name: _subject(metric) for name, metric in METRICS.items()}
"""By the metric's name."""

AGGREGATES = frozenset(
    {each for subject in SUBJECTS.values() for each in subject.aggregates}
    | set(ALIASES)
    | {"p90", "p75", "p999"}
)
"""Names of aggregates, for suggestions."""
