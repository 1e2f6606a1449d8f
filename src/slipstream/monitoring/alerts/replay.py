"""The past as `Readings`: what a condition would have been told at any moment of a stored range.

Every series is read once and walked with two fingers, so a week costs little more than its points. A
window shorter than the step is answered from one step. For one thread, forward in time only.
"""

import bisect
from collections import deque
from collections.abc import Sequence

from slipstream.core.histogram import Sketch
from slipstream.core.metrics import METRICS
from slipstream.core.readings import GaugeStats, Labels, Point, Readings, Span

_Key = tuple[str, tuple[tuple[str, str], ...]]


class Replay:
    """Implements `Readings` for one moment after the other.

    Args:
        readings: where the past is read from.
        span: the moments that will be asked.
        reach_seconds: the longest window of the condition.
    """

    def __init__(self, readings: Readings, span: Span, reach_seconds: float) -> None:
        self._readings = readings
        self._span = Span(span.start_ns - int(reach_seconds * 1e9), span.end_ns, span.step_seconds)
        self._step_ns = int(span.step_seconds * 1e9)
        self._now_ns = span.start_ns
        self._series: dict[_Key, Sequence[Point]] = {}
        self._windows: dict[tuple[_Key, float], _Window] = {}

    def move(self, wall_ns: int) -> None:
        """It is this moment now; never earlier than before."""
        assert wall_ns >= self._now_ns
        self._now_ns = wall_ns

    def now_wall_ns(self) -> int:
        """The moment."""
        return self._now_ns

    def fresh_since_ns(self) -> int:
        """No second is known by itself here."""
        return self._now_ns

    def counter(self, name: str, labels: Labels, window_seconds: float) -> float | None:
        """Growth within the window; None before anything was seen."""
        window = self._window(name, labels, window_seconds)
        if not window.has_begun:
            return None
        return float(window.count) if METRICS[name].kind == "histogram" else window.sum

    def rate(self, name: str, labels: Labels, window_seconds: float) -> float | None:
        """The same a second."""
        growth = self.counter(name, labels, window_seconds)
        return None if growth is None else growth / max(window_seconds, self._span.step_seconds)

    def total(self, name: str, labels: Labels) -> float | None:
        """Growth since the range began."""
        return self.counter(name, labels, (self._now_ns - self._span.start_ns) / 1e9)

    def sketch(self, name: str, labels: Labels, window_seconds: float) -> Sketch | None:
        """The values of the window; None where no sketches were stored."""
        return self._window(name, labels, window_seconds).sketch()

    def sketch_total(self, name: str, labels: Labels) -> Sketch | None:
        """The values since the range began."""
        return self.sketch(name, labels, (self._now_ns - self._span.start_ns) / 1e9)

    def gauge(self, name: str, labels: Labels) -> float | None:
        """The average of the step that ends now."""
        stats = self.gauge_stats(name, labels, self._span.step_seconds)
        return None if stats is None else stats.average

    def gauge_stats(self, name: str, labels: Labels, window_seconds: float) -> GaugeStats | None:
        """Looks within the window."""
        points = self._window(name, labels, window_seconds).points
        count = sum(point.count for point in points)
        if not count:
            return None
        return GaugeStats(
            sum(point.sum for point in points) / count,
            min(point.low for point in points),
            max(point.high for point in points),
            count,
        )

    def label_sets(self, name: str) -> Sequence[Labels]:
        """As of now, not of then."""
        return self._readings.label_sets(name)

    def history(self, name: str, labels: Labels, span: Span) -> Sequence[Point]:
        """The past itself."""
        return self._readings.history(name, labels, span)

    def _window(self, name: str, labels: Labels, window_seconds: float) -> "_Window":
        series = name, tuple(sorted(labels.items()))
        key = series, window_seconds
        if key not in self._windows:
            if series not in self._series:
                self._series[series] = self._readings.history(name, labels, self._span)
            self._windows[key] = _Window(
                self._series[series], max(int(window_seconds * 1e9), self._step_ns), self._step_ns
            )
        window = self._windows[key]
        window.move(self._now_ns)
        return window


class _Window:
    """The points of one series that lie within a window that moves forward, and their sums."""

    def __init__(self, series: Sequence[Point], length_ns: int, step_ns: int) -> None:
        self.points: deque[Point] = deque()
        self.sum = 0.0
        self.count = 0
        self.has_begun = False
        self._series = series
        self._walls = [point.wall_ns for point in series]
        self._next = 0
        self._length_ns = length_ns
        self._step_ns = step_ns
        self._buckets: dict[int, int] = {}
        self._total = 0.0
        self._scale = next((point.sketch.scale for point in series if point.sketch is not None), 1.0)

    def move(self, now_ns: int) -> None:
        """Take in the steps that have ended, let go of those that began before the window."""
        end = bisect.bisect_right(self._walls, now_ns - self._step_ns, lo=self._next)
        for point in self._series[self._next : end]:
            self._take(point, 1)
            self.points.append(point)
            self.has_begun = True
        self._next = end
        begin_ns = now_ns - self._length_ns
        while self.points and self.points[0].wall_ns < begin_ns:
            self._take(self.points.popleft(), -1)

    def sketch(self) -> Sketch | None:
        if not self._buckets:
            return None
        return Sketch(dict(self._buckets), max(self._total, 0.0), self._scale)

    def _take(self, point: Point, sign: int) -> None:
        self.sum += sign * point.sum
        self.count += sign * point.count
        if point.sketch is None:
            return
        self._total += sign * point.sketch.total
        for slot, count in point.sketch.buckets.items():
            left = self._buckets.get(slot, 0) + sign * count
            if left:
                self._buckets[slot] = left
            else:
                del self._buckets[slot]
