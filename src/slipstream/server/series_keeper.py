"""Between the live metrics and their file: every ten seconds what has come is stored, off the loop.

What cannot be stored waits a little, then is dropped and counted; nothing else is held up by it.
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from slipstream.core import histogram
from slipstream.core.errors import SlipstreamError, StoreFailed
from slipstream.core.histogram import Sketch
from slipstream.core.metrics import INDEX, METRICS, RECORDED, SKETCH_SERIES_MAX, Metric
from slipstream.core.readings import Labels, Point, Span
from slipstream.monitoring.aggregate import Aggregate, Key
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.tracks import FRAMES
from slipstream.store.series import FINEST, Row, Series, SeriesStore, stepped

KEEP_BYTES = 512 * 1024 * 1024
"""Size of the file at which the oldest points are dropped."""
WAITING_MAX = 30
"""Batches that wait for a store that does not take them: five minutes."""
ROLL_SECONDS = 60
_SKETCHED = ("response_time", "ttft", "itl", "gateway_overhead", "queue_wait", "upstream_time",
             "cache_lookup_time", "query_time")  # fmt: skip
"""Whose values over all labels are stored as sketches first; what is left of the sixteen goes to others."""

Batch = list[tuple[str, Mapping[str, str], Row]]
_log = logging.getLogger(__name__)


class SeriesKeeper:
    """Stores the metrics and finds them again. `path` is the file; None: nothing is stored or found."""

    def __init__(self, path: Path | None, *, keep_bytes: int = KEEP_BYTES) -> None:
        self._path = path
        self._keep_bytes = keep_bytes
        self._store: SeriesStore | None = None
        self._lock = threading.Lock()
        self._waiting: deque[Batch] = deque()
        self._dropped = 0
        self._until_seconds = 0
        self._frame = -1
        self._used = 0
        self._rolled_seconds = 0
        self._sketched: set[Key] = set()
        self._writing: asyncio.Task[None] | None = None
        self._failure = ""

    def health(self) -> dict[str, object]:
        """How the file does: why nothing is stored at the moment, what waits for it, how large it is."""
        return {
            "healthy": not self._failure,
            "detail": self._failure,
            "waiting": len(self._waiting),
            "bytes": self._used,
            "bytes_limit": self._keep_bytes,
        }

    def keep(self, readings: Aggregate, meter: Meter) -> None:
        """Once a second: every ten of them, take what has come and begin to store it."""
        now_seconds = readings.now_wall_ns() // 1_000_000_000
        until = now_seconds // FINEST * FINEST
        if self._path is None or until == self._until_seconds:
            return
        self._until_seconds = until
        self._take(readings, until * 1_000_000_000)
        meter.count("series_points_dropped", by=self._dropped)
        self._dropped = 0
        meter.set("series_bytes_limit", self._keep_bytes)
        meter.set("series_bytes", self._used)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write(now_seconds))

    def find(self, name: str, labels: Labels, span: Span) -> list[Point]:
        """The stored points of a metric; those of several series added up. Raises `StoreFailed`.

        Reads a file: not for an event loop.
        """
        store = self._opened()
        if store is None:
            return []
        metric = METRICS[name]
        start, end = span.start_ns // 1_000_000_000, -(-span.end_ns // 1_000_000_000)
        step = max(span.step_seconds, float(FINEST))
        at: dict[int, Row] = {}
        for series in _chosen(store.series(name), metric, labels):
            for row in stepped(store.find(series.number, start, end, step), start, step):
                at[row.at] = _together(metric, at[row.at], row) if row.at in at else row
        return [_point(metric, at[when]) for when in sorted(at)]

    async def aclose(self, readings: Aggregate) -> None:
        """Store what there is, without waiting for the ten seconds to be over."""
        if self._path is None:
            return
        now_seconds = readings.now_wall_ns() // 1_000_000_000
        self._take(readings, readings.now_wall_ns())
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        await self._write(now_seconds)
        with self._lock:
            if self._store is not None:
                with contextlib.suppress(StoreFailed):
                    await asyncio.to_thread(self._store.close)

    # What is stored.

    def _take(self, readings: Aggregate, until_ns: int) -> None:
        ended = readings.ended(self._frame, until_ns)
        if ended is None:
            return
        last, wall_ns = ended
        first, self._frame = max(self._frame + 1, last - FRAMES + 2), last
        at = (wall_ns - 1) // 1_000_000_000 // FINEST * FINEST  # a frame tells of the second before it
        if len(self._waiting) >= WAITING_MAX:
            self._dropped += len(self._waiting.popleft())
        self._waiting.append(list(self._rows(readings, (first, last), at)))

    def _rows(
        self, readings: Aggregate, frames: tuple[int, int], at: int
    ) -> Iterator[tuple[str, Mapping[str, str], Row]]:
        whole: dict[tuple[str, str], list[Sketch]] = {}
        for key in readings.tracks:
            point = readings.step(key, *frames)
            if point is None:
                continue
            metric = RECORDED[key[0]]
            labels = dict(zip(metric.labels, key[1], strict=True))
            kept = point.sketch if point.sketch is not None and self._is_sketched(key) else None
            yield metric.name, labels, _row(at, point, kept)
            if point.sketch is not None and metric.labels and metric.name in _SKETCHED:
                whole.setdefault((metric.name, labels.get("source", "")), []).append(point.sketch)
        for (name, source), sketches in whole.items():
            sketch = histogram.merged(sketches)
            assert sketch is not None
            point = Point(0, sketch.sum, sketch.count, sketch.low or 0.0, sketch.high or 0.0)
            yield name, {"source": source} if source else {}, _row(at, point, sketch)

    def _is_sketched(self, key: Key) -> bool:
        """Whether the sketches of a series are stored: of sixteen at most, those over all labels included."""
        if key not in self._sketched and len(self._sketched) < SKETCH_SERIES_MAX - len(_SKETCHED) + 2:
            self._sketched.add(key)
        return key in self._sketched

    # Writing, in a thread.

    async def _write(self, now_seconds: int) -> None:
        while self._waiting:
            batch = self._waiting.popleft()
            try:
                await asyncio.to_thread(self._insert, batch, now_seconds)
            except SlipstreamError as error:
                self._waiting.appendleft(batch)
                if not self._failure:
                    _log.warning("time series cannot be stored, they wait in memory: %s", error)
                self._failure = str(error)
                return
            if self._failure:
                _log.warning("time series are stored again")
                self._failure = ""

    def _insert(self, batch: Batch, now_seconds: int) -> None:
        store = self._opened()
        assert store is not None
        try:
            self._dropped += store.insert(batch)
            if now_seconds - self._rolled_seconds >= ROLL_SECONDS or now_seconds < self._rolled_seconds:
                self._rolled_seconds = now_seconds // ROLL_SECONDS * ROLL_SECONDS
                store.roll(now_seconds)
                store.prune(now_seconds, self._keep_bytes)
            self._used = store.used_bytes()
        except StoreFailed:
            with contextlib.suppress(StoreFailed):
                store.reopen()
            raise

    def _opened(self) -> SeriesStore | None:
        with self._lock:
            if self._store is None and self._path is not None:
                self._store = SeriesStore(self._path)
            return self._store


def _chosen(stored: list[Series], metric: Metric, labels: Labels) -> list[Series]:
    """The series that answer: the one over all labels where it fits, else those that carry them."""
    wanted = dict(labels)
    if "source" in metric.labels and "source" not in wanted:
        sources = {each.labels.get("source") for each in stored}
        wanted["source"] = "gateway" if "gateway" in sources else "app"
    exact = [each for each in stored if each.labels == wanted]
    if exact:
        return exact
    whole = [each for each in stored if len(each.labels) == len(metric.labels)]
    return [each for each in whole if wanted.items() <= each.labels.items()]


def _row(at: int, point: Point, sketch: Sketch | None) -> Row:
    return Row(at, point.sum, point.count, point.low, point.high, sketch.encode() if sketch else None)


def _together(metric: Metric, one: Row, other: Row) -> Row:
    """Rows of two series and one time as one."""
    if metric.kind == "gauge" and metric.combine == "max":
        return max(one, other, key=lambda row: (row.high, row.sum))
    count = one.count + other.count if metric.kind == "histogram" else max(one.count, other.count)
    if metric.kind == "histogram":
        low, high = min(one.low, other.low), max(one.high, other.high)
    else:
        low, high = one.low + other.low, one.high + other.high
    sketches = [histogram.decode(row.sketch) for row in (one, other) if row.sketch is not None]
    whole = histogram.merged(sketches)
    return Row(one.at, one.sum + other.sum, count, low, high, whole.encode() if whole else None)


def _point(metric: Metric, row: Row) -> Point:
    sketch = histogram.decode(row.sketch, metric.scale) if row.sketch is not None else None
    return Point(row.at * 1_000_000_000, row.sum, row.count, row.low, row.high, sketch)


assert set(_SKETCHED) <= set(INDEX)
