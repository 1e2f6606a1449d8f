"""What anybody reads metrics through: conditions, pages, exports, the Python API. It stores nothing.

Every reader gets the same numbers from the same arrays. Values are in the metric's unit
(`core.metrics`), windows in seconds up to now. `labels` picks the series that carry all the given
values and adds them up; an empty mapping takes them all.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from slipstream.core.errors import BadRequest
from slipstream.core.histogram import Sketch
from slipstream.core.metrics import METRICS, Metric
from slipstream.core.nearest import nearest

Labels = Mapping[str, str]
"""Label names to values."""
NAME_SHOWN = 100
"""Most of a name that an error repeats."""


class GaugeStats(Struct, frozen=True):
    """What a gauge was within a window, from one look a second."""

    average: float
    low: float
    high: float
    count: int
    """How many looks; each is one second."""


class Span(Struct, frozen=True):
    """A past range in steps, wall clock. A point at `t` tells of the step that begins at `t`."""

    start_ns: int
    end_ns: int
    step_seconds: float


class Point(Struct, frozen=True):
    """What a metric was within one step of a past range.

    Attributes:
        wall_ns: where the step begins.
        sum: a counter's increase, a histogram's sum of values, a gauge's sum of looks.
        count: seconds that a counter was looked at, values of a histogram, looks at a gauge.
        low, high: smallest and largest look at a gauge; per second of a counter's increase.
        sketch: of a histogram, where sketches were stored.
    """

    wall_ns: int
    sum: float
    count: int
    low: float
    high: float
    sketch: Sketch | None = None


class Readings(Protocol):
    """The port. Names that are not declared raise `BadRequest`; labels that a metric lacks match nothing.

    `response_time` without `source` means the gateway's where a server has seen requests, else the app's.
    """

    def now_wall_ns(self) -> int:
        """The moment up to which everything is told."""
        ...

    def fresh_since_ns(self) -> int:
        """The moment from which on every second is told; what is older is told in steps of 10 s or more."""
        ...

    def counter(self, name: str, labels: Labels, window_seconds: float) -> float | None:
        """How much a counter has grown (a histogram: how many values); None where nothing was ever seen."""
        ...

    def rate(self, name: str, labels: Labels, window_seconds: float) -> float | None:
        """The same a second, over what of the window was watched."""
        ...

    def total(self, name: str, labels: Labels) -> float | None:
        """A counter since the server began; None where nothing was ever seen."""
        ...

    def sketch(self, name: str, labels: Labels, window_seconds: float) -> Sketch | None:
        """A histogram's values within the window; None where there were none."""
        ...

    def sketch_total(self, name: str, labels: Labels) -> Sketch | None:
        """A histogram's values since the server began; None where there were none."""
        ...

    def gauge(self, name: str, labels: Labels) -> float | None:
        """A gauge now, added up over its series; None where nobody sets it."""
        ...

    def gauge_stats(self, name: str, labels: Labels, window_seconds: float) -> GaugeStats | None:
        """A gauge within the window; None where nobody has set it."""
        ...

    def label_sets(self, name: str) -> Sequence[Labels]:
        """The label sets that were seen of a metric."""
        ...

    def history(self, name: str, labels: Labels, span: Span) -> Sequence[Point]:
        """A metric's past, steps without data left out. May read a file: not for an event loop."""
        ...


def metric_named(name: str, *kinds: str) -> Metric:
    """The declared metric; raises `BadRequest` for a name that is none, or of another kind."""
    metric = METRICS.get(name)
    if metric is None:
        meant = nearest(name[:NAME_SHOWN], METRICS)
        hint = " ".join(filter(None, [meant, "All are in /_slipstream/metrics/names."]))
        raise BadRequest(f"There is no metric `{name[:NAME_SHOWN]}`.", hint=hint, param="metric")
    if kinds and metric.kind not in kinds:
        raise BadRequest(
            f"`{name}` is a {metric.kind}, not a {' or '.join(kinds)}.",
            hint="See /_slipstream/metrics/names.",
            param="metric",
        )
    return metric


def derived(readings: Readings, name: str, labels: Labels, window_seconds: float) -> float | None:
    """A derived metric (`throughput`, `error_rate`, …) over a window; None where it cannot be told.

    A ratio of nothing is None, never 0 and never an error. Labels that the denominator does not have are
    dropped there: the rate of one type of error is its share of all requests.
    """
    metric = metric_named(name, "derived")
    above, below = metric.over
    if not below:
        rate = readings.rate(above, labels, window_seconds)
        return None if rate is None else rate * metric.factor
    known = METRICS[below].labels
    whole = readings.counter(below, {k: v for k, v in labels.items() if k in known}, window_seconds)
    if not whole:
        return None
    part = readings.counter(above, labels, window_seconds)
    return (part or 0.0) / whole * metric.factor
