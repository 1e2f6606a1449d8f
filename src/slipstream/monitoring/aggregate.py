"""All slabs as one: read each second, kept for two hours, answered from (`core.readings.Readings`).

For one thread. It is told the time, knows where slabs are but not who writes them, and reads no file of
the past itself: that is asked of the `past` it is given.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from slipstream.core.errors import StoreFailed
from slipstream.core.histogram import Sketch, merged
from slipstream.core.metrics import INDEX, RECORDED
from slipstream.core.readings import GaugeStats, Labels, Point, Span, metric_named
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.points import cut_between, gauge_point, joined, sketch_point, with_older
from slipstream.monitoring.slab import Slab
from slipstream.monitoring.slab_reader import Change, SlabReader
from slipstream.monitoring.tracks import FRAMES, CounterTrack, GaugeTrack, SketchTrack, gauge_stats
from slipstream.monitoring.wide import Moment, Older, Past, WideWindows

TRACKS_MAX = 4096
"""Most series over all slabs."""
STEP_NS = 500_000_000
"""A difference between the clocks beyond which the wall clock is taken to have been set."""
WHOLE_SHARE = 0.9
"""Of how much of a window's stored part there must be sketches for its quantiles to be told."""
_MEMO_MAX = 1024
_UNKNOWN = object()

Key = tuple[int, tuple[str, ...]]
"""Number of a metric and the values of its labels."""
Track = CounterTrack | GaugeTrack | SketchTrack
_TRACK_OF: dict[str, Callable[[int], Track]] = {
    "counter": CounterTrack,
    "gauge": GaugeTrack,
    "histogram": SketchTrack,
}


class Source(Struct, frozen=True):
    """A slab to be read, by a name for people."""

    name: str
    reader: SlabReader


class Aggregate:
    """What all processes together have counted. Implements `Readings`.

    Args:
        sources: the slabs.
        own: a slab of this process, where what goes wrong here is counted.
        now_ns, wall_ns: the clocks at the start.
        past: finds what memory does not hold; None: nothing is.
    """

    def __init__(
        self, sources: Sequence[Source], own: Slab, *, now_ns: int, wall_ns: int, past: Past | None = None
    ) -> None:
        self.frame = -1
        self.tracks: dict[Key, Track] = {}
        self._sources = sources
        self._meter = Meter(own)
        self._past = past
        self._begun_ns = now_ns
        self._wall_ns = wall_ns
        self._now_ns = now_ns
        self._walls: dict[int, int] = {}
        self._memo: dict[object, object] = {}
        self._wide = WideWindows(past) if past is not None else None
        self._broken: set[str] = set()
        self._by_metric: dict[int, list[Key]] = {}

    # Once a second.

    def tick(self, now_ns: int, wall_ns: int) -> bool:
        """Read every slab. Whether a frame has ended by that: two ticks within a second make one."""
        frame = (now_ns - self._begun_ns) // 1_000_000_000
        if frame <= self.frame:
            return False
        self._look_at_clock(now_ns, wall_ns)
        for track in self.tracks.values():
            if isinstance(track, GaugeTrack):
                track.now = math.nan
        for missed in range(max(self.frame + 1, frame - FRAMES), frame):
            self._end(missed, wall_ns - (frame - missed) * 1_000_000_000)
        for source in self._sources:
            self._read(source)
        self._end(frame, wall_ns)
        self._memo.clear()
        return True

    def renew_past(self) -> None:
        """Read anew what windows beyond memory need of the file. Slow: for a thread, about once a minute."""
        if self._wide is not None and self.frame >= 0:
            self._wide.renew(self._moment())

    def seconds_to_next(self, now_ns: int) -> float:
        """How long to sleep until the middle of the next frame, where a late waking does no harm."""
        return 1.0 - ((now_ns - self._begun_ns) / 1e9 - 0.5) % 1.0

    def last_tick(self, now_ns: int, wall_ns: int) -> None:
        """Read every slab once more, even if the second is not over."""
        self.tick(max(now_ns, self._begun_ns + (self.frame + 1) * 1_000_000_000), wall_ns)

    def _read(self, source: Source) -> None:
        try:
            is_written = source.reader.has_writer()
            for change in source.reader.changes():
                self._take(change, is_written=is_written)
        except StoreFailed:
            if source.name not in self._broken:
                self._broken.add(source.name)
                self._meter.count("slabs_lost")
        except OSError:
            self._meter.count("slabs_lost")
        else:
            self._broken.discard(source.name)

    def _take(self, change: Change, *, is_written: bool) -> None:
        series = change.series
        track = self._track((series.metric, series.values))
        if track is None or not math.isfinite(change.value):
            self._meter.count("metrics_refused")
        elif isinstance(track, CounterTrack):
            track.add(change.value)
        elif isinstance(track, SketchTrack):
            track.add(change.value, change.buckets or {})
        elif is_written:
            before = track.now
            if math.isnan(before):
                track.now = change.value
            elif RECORDED[series.metric].combine == "max":
                track.now = max(before, change.value)
            else:
                track.now = before + change.value

    def _track(self, key: Key) -> Track | None:
        track = self.tracks.get(key)
        if track is None and len(self.tracks) < TRACKS_MAX:
            kind = RECORDED[key[0]].kind
            track = self.tracks[key] = _TRACK_OF[kind](max(self.frame + 1, 0))
            self._by_metric.setdefault(key[0], []).append(key)
        return track

    def _end(self, frame: int, wall_ns: int) -> None:
        for track in self.tracks.values():
            track.end(frame)
        self.frame = frame
        self._walls[frame] = wall_ns
        self._walls.pop(frame - FRAMES, None)

    def _look_at_clock(self, now_ns: int, wall_ns: int) -> None:
        if abs((wall_ns - self._wall_ns) - (now_ns - self._now_ns)) > STEP_NS:
            self._meter.count("clock_steps")
        self._now_ns, self._wall_ns = now_ns, wall_ns

    # Readings.

    def now_wall_ns(self) -> int:
        """The moment of the last look."""
        return self._wall_ns

    def fresh_since_ns(self) -> int:
        """The oldest look that is kept."""
        return self._walls.get(max(0, self.frame - FRAMES + 1), self._wall_ns)

    def counter(self, name: str, labels: Labels, window_seconds: float) -> float | None:
        """Growth within the window; beyond what memory holds with what was stored."""
        metric_named(name, "counter", "histogram")
        tracks = [self._counts(key) for key in self.matching(name, labels)]
        frames = min(self._frames(window_seconds), FRAMES - 1)
        older = self._older(name, labels, window_seconds)
        if older is None:
            return sum(track.growth(self.frame, frames) for track in tracks) if tracks else None
        growth = sum(track.growth(self.frame, self.frame - older.first + 1) for track in tracks)
        is_histogram = metric_named(name).kind == "histogram"
        growth += sum(point.count if is_histogram else point.sum for point in older.points)
        return growth if tracks or older.points else None

    def rate(self, name: str, labels: Labels, window_seconds: float) -> float | None:
        """Growth a second, over what of the window was watched."""
        growth = self.counter(name, labels, window_seconds)
        if growth is None:
            return None
        watched = (self._now_ns - self._begun_ns) / 1e9
        older = self._older(name, labels, window_seconds)
        if older is not None:
            watched = older.watched_seconds + self.frame - older.first + 1
        return growth / max(min(window_seconds, watched), 1.0)

    def total(self, name: str, labels: Labels) -> float | None:
        """Since the server began."""
        metric_named(name, "counter", "histogram")
        tracks = [self._counts(key) for key in self.matching(name, labels)]
        return sum(track.total for track in tracks) if tracks else None

    def sketch(self, name: str, labels: Labels, window_seconds: float) -> Sketch | None:
        """The values of the window; beyond ten minutes its begin is true to ten seconds."""
        memo = ("sketch", name, tuple(sorted(labels.items())), window_seconds)
        known = self._memo.get(memo, _UNKNOWN)  # a thread may be asking while the loop goes on
        if known is not _UNKNOWN:
            return known  # type: ignore[return-value]
        scale = metric_named(name, "histogram").scale
        older = self._older(name, labels, window_seconds)
        first = self.frame - min(self._frames(window_seconds), FRAMES - 1) + 1
        if older is not None:
            first = older.first
        parts = [self._sketches(key).sketch(first, self.frame, scale) for key in self.matching(name, labels)]
        if older is not None:
            parts += [point.sketch for point in older.points]
            stored = sum(point.sketch.count for point in older.points if point.sketch is not None)
            whole = sum(point.count for point in older.points)
            if stored < WHOLE_SHARE * whole and self._frames(window_seconds) >= FRAMES:
                return None  # sketches were not stored of it: two hours of values are no week
        found = merged(part for part in parts if part is not None)
        if len(self._memo) < _MEMO_MAX:
            self._memo[memo] = found
        return found

    def sketch_total(self, name: str, labels: Labels) -> Sketch | None:
        """All values since the server began."""
        scale = metric_named(name, "histogram").scale
        tracks = [self._sketches(key) for key in self.matching(name, labels)]
        return merged(Sketch(dict(t.all_buckets), t.all_total, scale) for t in tracks if t.all_buckets)

    def gauge(self, name: str, labels: Labels) -> float | None:
        """Now."""
        metric = metric_named(name, "gauge")
        values = [self._gauges(key).now for key in self.matching(name, labels)]
        values = [value for value in values if not math.isnan(value)]
        if not values:
            return None
        return max(values) if metric.combine == "max" else sum(values)

    def gauge_stats(self, name: str, labels: Labels, window_seconds: float) -> GaugeStats | None:
        """Within the window; beyond what memory holds with what was stored."""
        older = self._older(name, labels, window_seconds)
        first = self.frame - min(self._frames(window_seconds), FRAMES - 1) + 1
        if older is not None:
            first = older.first
        fresh = gauge_stats(self._looks(name, labels, first, self.frame))
        return with_older(fresh, older.points) if older is not None else fresh

    def label_sets(self, name: str) -> Sequence[Labels]:
        """The label sets that were seen."""
        metric = metric_named(name)
        number = INDEX.get(metric.over[0] if metric.kind == "derived" else name, -1)
        return [dict(zip(RECORDED[number].labels, key[1], strict=True)) for key in self._keys(number)]

    def history(self, name: str, labels: Labels, span: Span) -> Sequence[Point]:
        """A past range: what is in memory from there, what is older as it was stored."""
        metric_named(name, "counter", "gauge", "histogram")
        oldest_ns = self._walls.get(max(0, self.frame - FRAMES + 1), self._wall_ns)
        if self._past is None or span.start_ns >= oldest_ns:
            return list(self._fresh(name, labels, span, span.start_ns))
        cut_ns = min(
            max(cut_between(oldest_ns, self._wall_ns, span.step_seconds), span.start_ns), span.end_ns
        )
        older = self._past(name, labels, Span(span.start_ns, cut_ns, span.step_seconds))
        points = {point.wall_ns: point for point in older}
        for point in self._fresh(name, labels, span, cut_ns):
            before = points.get(point.wall_ns)
            points[point.wall_ns] = point if before is None else joined(before, point)
        return list(points.values())

    # Inside.

    def matching(self, name: str, labels: Labels) -> list[Key]:
        """The series of a metric that carry all the given labels.

        Without a `source`, response times are the gateway's where there are any, else the app's.
        """
        number = INDEX[name]
        names = RECORDED[number].labels
        if any(label not in names for label in labels):
            return []
        wanted = [labels.get(label) for label in names]
        keys = [
            key
            for key in self._keys(number)
            if all(want is None or want == value for want, value in zip(wanted, key[1], strict=True))
        ]
        if "source" in names and "source" not in labels:
            at = names.index("source")
            gateway = [key for key in keys if key[1][at] == "gateway"]
            return gateway or keys
        return keys

    def step(self, key: Key, first: int, last: int) -> Point | None:
        """What a series was in the frames from `first` to `last`; None where nothing is to be told."""
        track, metric = self.tracks[key], RECORDED[key[0]]
        wall_ns = self._walls.get(first, 0)
        if isinstance(track, CounterTrack):
            growths = track.steps(first, last)
            total = sum(growths)
            return Point(wall_ns, total, len(growths), min(growths), max(growths)) if total else None
        if isinstance(track, GaugeTrack):
            return gauge_point(wall_ns, track.values(first, last))
        return sketch_point(wall_ns, track.sketch(first, last, metric.scale))

    def ended(self, after: int, wall_ns: int) -> tuple[int, int] | None:
        """The last frame after `after` that had ended by `wall_ns`, and when it ended.

        None where there is none. By frames, not by time: no clock that is set loses or doubles one.
        """
        last = self.frame
        while last > after and self._walls.get(last, 0) > wall_ns:
            last -= 1
        return (last, self._walls[last]) if last > after else None

    def _fresh(self, name: str, labels: Labels, span: Span, since_ns: int) -> Iterator[Point]:
        keys = self.matching(name, labels)
        kind = metric_named(name).kind
        step_ns = max(1_000_000_000, int(span.step_seconds * 1e9))
        frames: dict[int, list[int]] = {}
        for frame, wall_ns in list(self._walls.items()):  # a thread may be asking
            if since_ns < wall_ns <= span.end_ns:  # a frame tells of the second before it
                frames.setdefault((wall_ns - 1 - span.start_ns) // step_ns, []).append(frame)
        for place in sorted(frames):
            first, last, wall_ns = min(frames[place]), max(frames[place]), span.start_ns + place * step_ns
            if kind == "gauge":
                point = gauge_point(wall_ns, self._looks(name, labels, first, last))
            elif kind == "counter":
                point = self._grown(wall_ns, keys, first, last)
            else:
                scale = metric_named(name).scale
                parts = [self._sketches(key).sketch(first, last, scale) for key in keys]
                point = sketch_point(wall_ns, merged(part for part in parts if part is not None))
            if point is not None:
                yield point

    def _grown(self, wall_ns: int, keys: list[Key], first: int, last: int) -> Point | None:
        if not keys:
            return None
        each = [sum(at) for at in zip(*(self._counts(key).steps(first, last) for key in keys), strict=True)]
        return Point(wall_ns, sum(each), len(each), min(each), max(each))

    def _looks(self, name: str, labels: Labels, first: int, last: int) -> list[float]:
        metric = metric_named(name, "gauge")
        tracks = [self._gauges(key) for key in self.matching(name, labels)]
        if len(tracks) == 1:
            return tracks[0].values(first, last)
        combine = max if metric.combine == "max" else sum
        looks = []
        for frame in range(max(first, self.frame - FRAMES + 1, 0), last + 1):
            values = [value for track in tracks for value in track.values(frame, frame)]
            if values:
                looks.append(float(combine(values)))
        return looks

    def _older(self, name: str, labels: Labels, window_seconds: float) -> Older | None:
        """The stored part of a window, and from where on memory tells; None where memory holds it all."""
        held = min(self.frame + 1, FRAMES - 1)
        if self._wide is None or self._frames(window_seconds) <= held or self.frame < 0:
            return None
        question = name, tuple(sorted(labels.items())), float(window_seconds)
        return self._wide.older(question, self._moment())

    def _moment(self) -> Moment:
        return Moment(self.frame, self._wall_ns, self._walls)

    @staticmethod
    def _frames(window_seconds: float) -> int:
        return max(1, round(window_seconds))

    def _keys(self, number: int) -> list[Key]:
        return self._by_metric.get(number, [])

    def _counts(self, key: Key) -> CounterTrack:
        track = self.tracks[key]
        if isinstance(track, SketchTrack):
            return track.counts
        assert isinstance(track, CounterTrack)
        return track

    def _gauges(self, key: Key) -> GaugeTrack:
        track = self.tracks[key]
        assert isinstance(track, GaugeTrack)
        return track

    def _sketches(self, key: Key) -> SketchTrack:
        track = self.tracks[key]
        assert isinstance(track, SketchTrack)
        return track
