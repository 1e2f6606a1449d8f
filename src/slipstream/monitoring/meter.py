"""How a part counts and measures: by the declared name of a metric and its labels, into a slab.

For parts off the hot path; a bad value is refused and counted, never raised. The hot path has its own
(`recorder`), and counts by `core.meters`.
"""

import math

from slipstream.core.histogram import index
from slipstream.core.meters import NAMES, Counters
from slipstream.core.metrics import COUNTER_METRIC, INDEX, RECORDED, Kind
from slipstream.monitoring.slab import Slab

_KEPT_MAX = 4096
_VALUE_MAX = 1e15


class Meter:
    """Writes named values. For the thread of its slab."""

    def __init__(self, slab: Slab) -> None:
        self._slab = slab
        self._cells = slab.cells
        self._places: dict[tuple[str, tuple[str, ...]], int] = {}
        self._refused = slab.place("metrics_refused")

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Add to a counter; `labels` are the values of its labels, in their order."""
        at = self._place(name, labels, "counter")
        if at < 0 or not 0.0 <= by <= _VALUE_MAX:
            self._cells[self._refused] += 1
            return
        self._cells[at] += by

    def set(self, name: str, value: float | None, *labels: str) -> None:
        """Set a gauge; None unsets it."""
        at = self._place(name, labels, "gauge")
        if at < 0 or (value is not None and not abs(value) <= _VALUE_MAX):
            self._cells[self._refused] += 1
            return
        self._cells[at] = math.nan if value is None else value

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add a value to a histogram, in the unit that is shown: 12.5 for 12.5 ms."""
        at = self._place(name, labels, "histogram")
        raw = value * RECORDED[INDEX[name]].scale if at >= 0 else 0.0
        if at < 0 or not 0.0 <= raw <= 1e18:
            self._cells[self._refused] += 1
            return
        self._cells[at] += raw
        self._cells[at + 1 + index(raw)] += 1

    def _place(self, name: str, labels: tuple[str, ...], kind: Kind) -> int:
        """The first cell, -1 for what is not declared so."""
        at = self._places.get((name, labels))
        if at is None:
            number = INDEX.get(name)
            if number is None or len(labels) != len(RECORDED[number].labels):
                return -1
            at = self._slab.place(name, *labels)
            if len(self._places) < _KEPT_MAX:
                self._places[name, labels] = at
        return at if RECORDED[INDEX[name]].kind == kind else -1


def attach(counters: Counters, slab: Slab) -> None:
    """Let `counters` count in `slab` from here on; what it has counted before is added there."""
    places = {name: slab.place(COUNTER_METRIC.get(name, name)) for name in NAMES}
    counters.move(slab.cells, places)
