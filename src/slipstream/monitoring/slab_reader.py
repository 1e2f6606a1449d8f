"""The reader's side of a slab: what has changed since it was last looked at. Never touches its memory.

It reads by copying (`pread`), so a slab that was cut short is an error here and not the reader's death.
"""

import fcntl
import math
import os
from array import array
from collections.abc import Iterator
from itertools import compress, count

from msgspec import Struct

from slipstream.core.errors import StoreFailed
from slipstream.core.histogram import SLOTS
from slipstream.core.metrics import RECORDED
from slipstream.monitoring.slab import (
    CELLS_AT,
    CELLS_MAX,
    DIRECTORY_AT,
    ENTRY_BYTES,
    HEADER,
    SERIES_MAX,
    USED,
    USED_AT,
    cells_of,
    entries,
    is_ours,
)

_CELL = 8
_CHUNK = 32 * _CELL
_COUNT_MAX = 2**31


class Series(Struct, frozen=True):
    """One series of a slab."""

    metric: int
    values: tuple[str, ...]
    cell: int


class Change(Struct, frozen=True):
    """What has happened to one series: a counter's or histogram's growth, a gauge's value."""

    series: Series
    value: float
    buckets: dict[int, int] | None = None
    """Of a histogram: slot to growth. Its `value` is the growth of its sum."""


class SlabReader:
    """Looks at one slab again and again. `file` is not closed by it."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._series: list[Series] = []
        self._cells = b""

    def changes(self) -> Iterator[Change]:
        """All that has changed since the last time, every gauge that is set included.

        Raises `StoreFailed` for a slab that is cut short, foreign or damaged; the next look may succeed.
        """
        cells = self._look()
        before = self._cells
        self._cells = cells
        before += bytes(len(cells) - len(before))
        now, past = memoryview(cells).cast("d"), memoryview(before).cast("d")
        for series in self._series:
            at = series.cell
            kind = RECORDED[series.metric].kind
            if kind == "histogram":
                change = _histogram(series, cells, before, growth=_growth(now[at], past[at]))
                if change is not None:
                    yield change
            elif kind == "gauge":
                value = now[at]
                if not math.isnan(value):  # set
                    yield Change(series, value)
            elif now[at] != past[at]:
                yield Change(series, _growth(now[at], past[at]))

    def has_writer(self) -> bool:
        """Whether a process holds the slab; its gauges mean nothing otherwise."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    def _look(self) -> bytes:
        try:
            head = os.pread(self._file, USED_AT + USED.size, 0)
        except OSError as error:
            raise _damaged(str(error)) from error
        if len(head) < USED_AT + USED.size or not is_ours(head[: HEADER.size]):
            raise _damaged("its header is not ours")
        series, used = USED.unpack_from(head, USED_AT)
        if not len(self._series) <= series <= SERIES_MAX or used > CELLS_MAX:
            raise _damaged("its counts are impossible")
        self._learn(series)
        size = max((each.cell + cells_of(RECORDED[each.metric]) for each in self._series), default=0) * _CELL
        cells = _pread(self._file, max(size, len(self._cells)), CELLS_AT)
        if len(cells) < size:
            raise _damaged("it is cut short")
        return cells

    def _learn(self, series: int) -> None:
        known = len(self._series)
        if series == known:
            return
        directory = _pread(self._file, DIRECTORY_AT + series * ENTRY_BYTES, 0)
        if len(directory) < DIRECTORY_AT + series * ENTRY_BYTES:
            raise _damaged("it is cut short")
        self._series += [Series(*entry) for entry in entries(directory, known, series)]


def _histogram(series: Series, cells: bytes, before: bytes, *, growth: float) -> Change | None:
    """What was added to a histogram. Equal stretches are skipped: nearly all of it stays as it was."""
    start = (series.cell + 1) * _CELL
    end = start + SLOTS * _CELL
    if cells[start:end] == before[start:end]:
        return None
    buckets: dict[int, int] = {}
    for at in range(start, end, _CHUNK):
        stop = min(at + _CHUNK, end)
        new, old = cells[at:stop], before[at:stop]
        if new == old:
            continue
        first = (at - start) // _CELL
        grown = [int(min(n - o, _COUNT_MAX)) for n, o in zip(array("d", new), array("d", old), strict=True)]
        for offset in compress(count(), (each > 0 for each in grown)):
            buckets[first + offset] = grown[offset]
    return Change(series, growth, buckets) if buckets else None


def _growth(now: float, past: float) -> float:
    """How much a counter has grown; one that is smaller than it was has begun anew."""
    return now - past if now >= past else now


def _pread(file: int, size: int, at: int) -> bytes:
    try:
        return os.pread(file, size, at)
    except OSError as error:
        raise _damaged(str(error)) from error


def _damaged(why: str) -> StoreFailed:
    return StoreFailed(f"A slab cannot be read: {why}.", code="slab_damaged")
