"""Time series on disk: points of ten seconds for two days, of a minute for a month, of an hour for two years.

A point holds sum, count, lowest and highest; of some histograms also the sketch, so that a weekly p95 is
a true one. It knows no metric: whoever writes says what a row means, and how rows of several series add up.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path

from msgspec import Struct

from slipstream.core import histogram
from slipstream.core.errors import SlipstreamError
from slipstream.core.histogram import Sketch
from slipstream.store import migrations
from slipstream.store.sqlite import Database, Manner
from slipstream.store.values import Value

SCHEMA = migrations.load("series", application_id=0x536C5453)  # "SlTS"
TIERS: tuple[tuple[int, int], ...] = ((10, 48 * 3600), (60, 30 * 86_400), (3600, 730 * 86_400))
"""Seconds of a point, and for how many seconds it is kept."""
FINEST = TIERS[0][0]
SERIES_MAX = 4096
"""Most series in the file; more are refused."""
POINTS_MAX = 20_000
"""Most points of one series that a question may read; it is answered from a coarser tier instead."""

_DROPPED_SHARE = 8
_INSERT = (
    "INSERT INTO point VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET sum = sum + excluded.sum,"
    " count = count + excluded.count, low = min(low, excluded.low), high = max(high, excluded.high),"
    " sketch = excluded.sketch"
)
_REPLACE = "INSERT OR REPLACE INTO point VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_RANGE = (
    "SELECT at, sum, count, low, high, sketch FROM point"
    " WHERE series = ? AND tier = ? AND at >= ? AND at < ? ORDER BY at"
)


class Row(Struct, frozen=True):
    """One stretch of one series. `at` is its begin, in seconds of the wall clock."""

    at: int
    sum: float
    count: int
    low: float
    high: float
    sketch: bytes | None = None


class Series(Struct, frozen=True):
    """A stored series."""

    number: int
    metric: str
    labels: dict[str, str]


class SeriesStore:
    """The file of the time series. Safe to use from several threads.

    Opening creates it, upgrades an older one and sets a damaged one aside. Every method raises
    `StoreFailed`.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA, Manner(synchronous="NORMAL", when_damaged="set aside"))
        self._series: dict[tuple[str, str], Series] = {}
        self._rolled: dict[int, int] = {}
        self._learn()

    def series(self, metric: str) -> list[Series]:
        """All series of a metric."""
        return [each for each in self._series.values() if each.metric == metric]

    def insert(self, rows: Sequence[tuple[str, Mapping[str, str], Row]]) -> int:
        """Add rows of the finest tier; how many series found no room. Rows of a time that is there add up."""
        if self._database.refresh():
            self._learn()
        refused = 0
        with self._database.transaction():
            bound: list[tuple[Value, ...]] = []
            for metric, labels, row in rows:
                number = self._number(metric, labels)
                if number is None:
                    refused += 1
                    continue
                bound.append(_values(number, FINEST, self._added(number, row)))
            self._database.run_many(_INSERT, bound)
        return refused

    def roll(self, now_seconds: int) -> None:
        """Make the points of the coarser tiers whose time is over."""
        for (fine, _), (coarse, _) in pairwise(TIERS):
            until = now_seconds // coarse * coarse
            since = min(self._rolled.get(coarse, 0), until)
            if since == until:
                continue
            with self._database.transaction():
                for each in self._series.values():
                    self._roll_one(each.number, fine, coarse, (since, until))
            self._rolled[coarse] = until

    def find(self, number: int, start: int, end: int, step: float) -> list[Row]:
        """The points of one series from `start` to before `end`, none coarser than need be."""
        place = self._tier_for(start, end, step)
        rows: list[Row] = []
        while True:
            tier = TIERS[place][0]
            until = min(end, self._rolled.get(tier, end)) if place else end
            rows += self._range(number, tier, max(start, 0), until)
            start = max(start, until)
            if place == 0 or start >= end:
                return rows
            place -= 1

    def prune(self, now_seconds: int, keep_bytes: int) -> int:
        """Delete what is too old; while the file is too large, also the oldest of the finest tier.

        Of each tier the last sixty points stay. How many points were deleted.
        """
        deleted = 0
        for tier, seconds in TIERS:
            deleted += self._drop(tier, now_seconds - seconds)
        for tier, _ in TIERS:
            while self.used_bytes() > keep_bytes:
                oldest = self._oldest(tier)
                if oldest is None or now_seconds - oldest < 60 * tier:
                    break
                gone = self._drop(tier, oldest + max(tier, (now_seconds - oldest) // _DROPPED_SHARE))
                deleted += gone
                if not gone:
                    break
        if deleted:
            self._database.rows("PRAGMA incremental_vacuum(512)")
        return deleted

    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        pragma = self._database.number
        return (pragma("PRAGMA page_count") - pragma("PRAGMA freelist_count")) * pragma("PRAGMA page_size")

    def reopen(self) -> None:
        """Close and open again; due after every failed write."""
        self._database.reopen()
        self._learn()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _learn(self) -> None:
        self._series = {}
        for number, metric, labels in self._database.rows("SELECT number, metric, labels FROM series"):
            assert isinstance(number, int)
            told = str(labels)
            self._series[str(metric), told] = Series(number, str(metric), json.loads(told))
        for tier, _ in TIERS[1:]:  # what was rolled last may have been rolled before its time was over
            self._rolled[tier] = max(
                (self._end("max(at)", each, tier) or 0 for each in self._series.values()), default=0
            )

    def _end(self, which: str, series: Series, tier: int) -> int | None:
        sql = f"SELECT {which} FROM point WHERE series = ? AND tier = ?"  # noqa: S608 - one of two words
        found = self._database.rows(sql, (series.number, tier))[0][0]
        return found if isinstance(found, int) else None

    def _number(self, metric: str, labels: Mapping[str, str]) -> int | None:
        told = json.dumps(dict(sorted(labels.items())), ensure_ascii=False)
        known = self._series.get((metric, told))
        if known is not None:
            return known.number
        if len(self._series) >= SERIES_MAX:
            return None
        self._database.run_many(
            "INSERT OR IGNORE INTO series (metric, labels) VALUES (?, ?)", [(metric, told)]
        )
        number = self._database.number(
            "SELECT number FROM series WHERE metric = ? AND labels = ?", (metric, told)
        )
        self._series[metric, told] = Series(number, metric, dict(labels))
        return number

    def _added(self, number: int, row: Row) -> Row:
        """The row with what its sketch must be if there is one of its time already: the clock was set."""
        if row.sketch is None:
            return row
        there = self._range(number, FINEST, row.at, row.at + 1)
        merged = _merged_sketch([*there, row])
        return Row(row.at, row.sum, row.count, row.low, row.high, merged)

    def _roll_one(self, number: int, fine: int, coarse: int, stretch: tuple[int, int]) -> None:
        since, until = stretch
        rows = self._range(number, fine, since, until)
        made = [merge(list(each), at * coarse) for at, each in groupby(rows, lambda row: row.at // coarse)]
        self._database.run_many(_REPLACE, [_values(number, coarse, row) for row in made])

    def _tier_for(self, start: int, end: int, step: float) -> int:
        """The finest tier that reaches back far enough and is no finer than is asked."""
        newest = max([end, *self._rolled.values()])
        for place, (tier, seconds) in enumerate(TIERS):
            next_tier = TIERS[place + 1][0] if place + 1 < len(TIERS) else None
            reaches = newest - start <= seconds and (end - start) / tier <= POINTS_MAX
            if next_tier is None or (reaches and step < next_tier):
                return place
        return len(TIERS) - 1

    def _range(self, number: int, tier: int, start: int, end: int) -> list[Row]:
        rows = self._database.rows(_RANGE, (number, tier, start, end))
        return [Row(*row) for row in rows]  # type: ignore[arg-type]

    def _oldest(self, tier: int) -> int | None:
        found = [self._end("min(at)", each, tier) for each in self._series.values()]
        return min((at for at in found if at is not None), default=None)

    def _drop(self, tier: int, before: int) -> int:
        return self._database.run_many(
            "DELETE FROM point WHERE series = ? AND tier = ? AND at < ?",
            [(each.number, tier, before) for each in self._series.values()],
        )


def merge(rows: Sequence[Row], at: int) -> Row:
    """Rows of one series, one after the other, as one that begins at `at`."""
    return Row(
        at,
        sum(row.sum for row in rows),
        sum(row.count for row in rows),
        min(row.low for row in rows),
        max(row.high for row in rows),
        _merged_sketch(rows),
    )


def stepped(rows: Iterable[Row], start: int, step: float) -> Iterator[Row]:
    """Rows merged into steps of `step` seconds from `start` on; steps without any are left out."""
    ordered = sorted(rows, key=attrgetter("at"))
    for place, each in groupby(ordered, lambda row: int((row.at - start) // step)):
        yield merge(list(each), int(start + place * step))


def _merged_sketch(rows: Iterable[Row]) -> bytes | None:
    """All sketches in one; None where there are none. One that is damaged is left out."""
    sketches: list[Sketch] = []
    for row in rows:
        if row.sketch is not None:
            try:
                sketches.append(histogram.decode(row.sketch))
            except SlipstreamError:
                continue
    whole = histogram.merged(sketches)
    return None if whole is None else whole.encode()


def _values(number: int, tier: int, row: Row) -> tuple[Value, ...]:
    return number, tier, row.at, row.sum, row.count, row.low, row.high, row.sketch
