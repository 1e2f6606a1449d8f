"""How a part counts and measures: by the declared name of a metric and its labels, into a slab.

For parts off the hot path; a bad value is refused and counted, never raised. The hot path has its own
(`recorder`), and counts by `core.meters`.
"""

import functools
import math
from collections.abc import Callable

from slipstream.core.histogram import LEAST, MOST, PER_OCTAVE, SHIFT, WHOLE, index
from slipstream.core.meters import NAMES, Counters
from slipstream.core.metrics import COUNTER_METRIC, INDEX, RECORDED, Kind
from slipstream.monitoring.slab import Slab

_KEPT_MAX = 4096
_VALUE_MAX = 1e15
_SHIFT = 1 + SHIFT
_NOWHERE = (-1, 1.0)
_ceil, _log2 = math.ceil, math.log2


def add(cells: "memoryview[float]", at: int, raw: float) -> None:
    """Add a value in its finest unit to the histogram at `at`; 0 for what is negative.

    `core.histogram.index` is written out: a call costs as much as what it does.
    """
    if LEAST < raw < MOST:
        cells[at] += raw
        cells[at + _ceil(_log2(raw / WHOLE) * PER_OCTAVE) + _SHIFT] += 1
    else:
        cells[at] += max(raw, 0)
        cells[at + 1 + index(raw)] += 1


class Meter:
    """Writes named values. For the thread of its slab."""

    def __init__(self, slab: Slab) -> None:
        self._slab = slab
        self._cells = slab.cells
        self._places: dict[tuple[str, Kind, tuple[str, ...]], tuple[int, float]] = {}
        self._refused = slab.place("metrics_refused")

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Add to a counter; `labels` are the values of its labels, in their order."""
        at = (self._places.get((name, "counter", labels)) or self._place(name, "counter", labels))[0]
        if at >= 0 and 0.0 <= by <= _VALUE_MAX:
            self._cells[at] += by
        else:
            self._cells[self._refused] += 1

    def set(self, name: str, value: float | None, *labels: str) -> None:
        """Set a gauge; None unsets it."""
        at = (self._places.get((name, "gauge", labels)) or self._place(name, "gauge", labels))[0]
        if at >= 0 and (value is None or abs(value) <= _VALUE_MAX):
            self._cells[at] = math.nan if value is None else value
        else:
            self._cells[self._refused] += 1

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add a value to a histogram, in the unit that is shown: 12.5 for 12.5 ms."""
        at, scale = self._places.get((name, "histogram", labels)) or self._place(name, "histogram", labels)
        raw = value * scale
        if at >= 0 and 0.0 <= raw <= 1e18:
            self._cells[at] += raw
            self._cells[at + 1 + index(raw)] += 1
        else:
            self._cells[self._refused] += 1

    def adder(self, name: str, *labels: str) -> Callable[[int], None]:
        """What adds a value in its finest unit (nanoseconds) to one histogram: for where it is hot."""
        return functools.partial(add, self._cells, self._slab.place(name, *labels))

    def _place(self, name: str, kind: Kind, labels: tuple[str, ...]) -> tuple[int, float]:
        """First cell and scale; `_NOWHERE` for what is not declared so."""
        number = INDEX.get(name)
        if number is None or RECORDED[number].kind != kind or len(labels) != len(RECORDED[number].labels):
            return _NOWHERE
        found = self._slab.place(name, *labels), RECORDED[number].scale
        if len(self._places) < _KEPT_MAX:
            self._places[name, kind, labels] = found
        return found


def attach(counters: Counters, slab: Slab) -> None:
    """Let `counters` count in `slab` from here on; what it has counted before is added there."""
    places = {name: slab.place(COUNTER_METRIC.get(name, name)) for name in NAMES}
    counters.move(slab.cells, places)
