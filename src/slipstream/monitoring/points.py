"""Points of past ranges: made of fresh looks, joined where memory and file meet. Knows no series."""

from collections.abc import Sequence

from slipstream.core.histogram import Sketch, merged
from slipstream.core.readings import GaugeStats, Point

_FINEST_NS = 10_000_000_000
_STORED_NS = 15_000_000_000
"""How soon what came is surely stored."""


def cut_between(oldest_ns: int, now_ns: int, step_seconds: float) -> int:
    """From when on a past range is told from memory, such that what is stored up to there is not told twice.

    A stored point begins at a whole 10 s, minute or hour; those of a time that is not over are not there.
    """
    tier_ns = next((tier for tier in (3600, 60) if step_seconds >= tier), 10) * 1_000_000_000
    cut_ns = -(-oldest_ns // tier_ns) * tier_ns
    if cut_ns > now_ns - (_STORED_NS if tier_ns == _FINEST_NS else 0):
        return oldest_ns // _FINEST_NS * _FINEST_NS  # a young server: nothing of its own is stored yet
    return cut_ns


def joined(one: Point, other: Point) -> Point:
    """Two parts of one step, as one."""
    sketch = merged(each for each in (one.sketch, other.sketch) if each is not None)
    low, high = min(one.low, other.low), max(one.high, other.high)
    return Point(one.wall_ns, one.sum + other.sum, one.count + other.count, low, high, sketch)


def gauge_point(wall_ns: int, values: list[float]) -> Point | None:
    """Looks at a gauge as one point; None of none."""
    if not values:
        return None
    return Point(wall_ns, sum(values), len(values), min(values), max(values))


def with_older(fresh: GaugeStats | None, older: Sequence[Point]) -> GaugeStats | None:
    """Looks at a gauge that are in memory, and those that were stored before, as one."""
    count = sum(point.count for point in older)
    if not count:
        return fresh
    total, low, high = sum(p.sum for p in older), min(p.low for p in older), max(p.high for p in older)
    if fresh is not None:
        total, count = total + fresh.average * fresh.count, count + fresh.count
        low, high = min(low, fresh.low), max(high, fresh.high)
    return GaugeStats(total / count, low, high, int(count))


def sketch_point(wall_ns: int, sketch: Sketch | None) -> Point | None:
    """The values of one step as one point; None of none."""
    if sketch is None or not sketch.buckets:
        return None
    return Point(wall_ns, sketch.sum, sketch.count, sketch.low or 0.0, sketch.high or 0.0, sketch)
