"""What is told of a step: its times, and that it is the one that stands out. Times are milliseconds."""

from typing import Any, Self

from slipstream.core.histogram import Sketch
from slipstream.profiling.collection import Sums

MS = 1e6
"""Nanoseconds of one."""


class StepTiming(float):
    """Total milliseconds of a step, with how they are spread.

    Attributes:
        count, errors: how often it ran, and ended with an exception.
        self_ms: its time that no step within it covers.
        mean, p50, p95, p99, max: of one run; percentiles within 1.1 %, never above the maximum.
    """

    __slots__ = ("count", "errors", "max", "mean", "p50", "p95", "p99", "self_ms")

    count: int
    errors: int
    self_ms: float
    mean: float
    p50: float
    p95: float
    p99: float
    max: float

    def __new__(cls, sums: Sums) -> Self:
        """Of the sums of a name."""
        timing = super().__new__(cls, sums.total_ns / MS)
        sketch = Sketch(sums.buckets, sums.total_ns, MS)
        timing.count, timing.errors = sums.count, sums.errors
        timing.self_ms = sums.own_ns / MS
        timing.mean = sums.total_ns / sums.count / MS
        timing.max = sums.max_ns / MS  # exact, so the middle of a bucket may lie above it
        timing.p50, timing.p95, timing.p99 = (
            min(sketch.quantile(q) or 0.0, timing.max) for q in (0.5, 0.95, 0.99)
        )
        return timing

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_was, (StepTiming, float(self), {name: getattr(self, name) for name in self.__slots__})


class Bottleneck(str):
    """The step that explains the slow calls; a text that says why and how much.

    Attributes:
        reason: in words.
        share: of what it explains, 0..1.
    """

    __slots__ = ("reason", "share")

    reason: str
    share: float

    def __new__(cls, step: str, reason: str, share: float) -> Self:
        """Of a verdict."""
        bottleneck = super().__new__(cls, step)
        bottleneck.reason, bottleneck.share = reason, share
        return bottleneck

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_was, (Bottleneck, str(self), {name: getattr(self, name) for name in self.__slots__})


def _as_it_was(kind: type[Any], value: Any, rest: dict[str, object]) -> object:
    """For another process, which unpickles it."""
    made = (float if issubclass(kind, float) else str).__new__(kind, value)
    for name, each in rest.items():
        setattr(made, name, each)
    return made
