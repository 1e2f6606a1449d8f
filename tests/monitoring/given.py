"""Readings that a test sets by hand: a real implementation of the port, over values instead of arrays."""

from collections.abc import Mapping, Sequence

from slipstream.core.histogram import Sketch, sketch_of
from slipstream.core.metrics import METRICS
from slipstream.core.readings import GaugeStats, Labels, Point, Span


class Given:
    """What was said of each metric, whatever the window and labels are; all asked windows are noted."""

    def __init__(self, **values: object) -> None:
        self.values: dict[str, object] = dict(values)
        self.asked: list[tuple[str, dict[str, str], float]] = []
        self.wall_ns = 1_700_000_000_000_000_000

    def now_wall_ns(self) -> int:
        return self.wall_ns

    def fresh_since_ns(self) -> int:
        return self.wall_ns

    def counter(self, name: str, labels: Labels, window_seconds: float) -> float | None:
        value = self._value(name, labels, window_seconds)
        if isinstance(value, Sequence):
            return float(len(value)) if value else None
        return value

    def rate(self, name: str, labels: Labels, window_seconds: float) -> float | None:
        grown = self.counter(name, labels, window_seconds)
        return None if grown is None else grown / window_seconds

    def total(self, name: str, labels: Labels) -> float | None:
        return self.counter(name, labels, 0.0)

    def sketch(self, name: str, labels: Labels, window_seconds: float) -> Sketch | None:
        values = self._value(name, labels, window_seconds)
        return sketch_of(values, METRICS[name].scale) if values else None

    def sketch_total(self, name: str, labels: Labels) -> Sketch | None:
        return self.sketch(name, labels, 0.0)

    def gauge(self, name: str, labels: Labels) -> float | None:
        return self._value(name, labels, 0.0)

    def gauge_stats(self, name: str, labels: Labels, window_seconds: float) -> GaugeStats | None:
        value = self._value(name, labels, window_seconds)
        return None if value is None else GaugeStats(value, value, value, max(1, int(window_seconds)))

    def label_sets(self, name: str) -> Sequence[Labels]:
        return ()

    def history(self, name: str, labels: Labels, span: Span) -> Sequence[Point]:
        return ()

    def _value(self, name: str, labels: Mapping[str, str], window_seconds: float):
        assert name in METRICS, name
        self.asked.append((name, dict(labels), window_seconds))
        return self.values.get(name)
