"""The fresh past of one series: one value a second for two hours, sketches in seconds, tens and minutes.

A frame is a second since the server began. Memory is taken as time passes and has an end: 58 KB for a
counter or gauge, and for a histogram some thousand small blocks. It knows no names and no clock.
"""

import itertools
import math
from array import array

from slipstream.core.histogram import Sketch
from slipstream.core.readings import GaugeStats

FRAMES = 7200
"""Seconds that are kept."""
_TIERS = ((60, 120), (10, 720), (1, 600))
"""Seconds of a block and how many blocks are kept."""

Block = tuple[float, "array[int]", "array[int]"]
"""Sum, slots, counts of the values of one stretch of time."""


class Ring:
    """The last values of something that has one each second. What was not told is NaN."""

    __slots__ = ("_values", "newest")

    def __init__(self, newest: int = -1) -> None:
        self._values = array("d")
        self.newest = newest
        """The frame of the newest value; the first one told may be any."""

    def put(self, frame: int, value: float) -> None:
        """Tell the value of a frame, the one after the newest."""
        at = frame % FRAMES
        if at >= len(self._values):
            self._values.extend([math.nan] * (at - len(self._values) + 1))
        self._values[at] = value
        self.newest = frame

    def get(self, frame: int) -> float:
        """The value of a frame, NaN for one that is not kept."""
        if self.newest - frame >= FRAMES or not 0 <= frame <= self.newest:
            return math.nan
        at = frame % FRAMES
        return self._values[at] if at < len(self._values) else math.nan

    def slice(self, first: int, last: int) -> list[float]:
        """The values of the frames from `first` to `last`, both in it."""
        return [self.get(frame) for frame in range(first, last + 1)]


class CounterTrack:
    """A counter, or how many values a histogram has."""

    __slots__ = ("_born", "_ring", "total")

    def __init__(self, frame: int) -> None:
        self._ring = Ring(frame - 1)
        self._born = frame
        self.total = 0.0

    def add(self, growth: float) -> None:
        """It has grown within the frame that is under way."""
        self.total += growth

    def end(self, frame: int) -> None:
        """The frame is over."""
        self._ring.put(frame, self.total)

    @property
    def newest(self) -> int:
        """The last frame that is over."""
        return self._ring.newest

    def growth(self, frame: int, frames: int) -> float:
        """How much it has grown in the last `frames` up to the one given."""
        return self._at(frame) - self._at(frame - frames)

    def steps(self, first: int, last: int) -> list[float]:
        """How much it has grown in each frame."""
        values = [self._at(frame) for frame in range(first - 1, last + 1)]
        return [max(0.0, now - before) for before, now in itertools.pairwise(values)]

    def _at(self, frame: int) -> float:
        if frame < self._born:
            return 0.0
        ring = self._ring
        if frame > ring.newest:
            return self.total
        value = ring.get(max(frame, ring.newest - FRAMES + 1))
        return 0.0 if math.isnan(value) else value


class GaugeTrack:
    """A gauge."""

    __slots__ = ("_ring", "now")

    def __init__(self, frame: int) -> None:
        self._ring = Ring(frame - 1)
        self.now = math.nan

    def end(self, frame: int) -> None:
        """The frame is over, with the gauge as it is."""
        self._ring.put(frame, self.now)

    def values(self, first: int, last: int) -> list[float]:
        """The looks at it from frame `first` to `last`; those when it was not set are left out."""
        first = max(first, self._ring.newest - FRAMES + 1, 0)
        return [value for value in self._ring.slice(first, last) if not math.isnan(value)]

    def stats(self, frame: int, frames: int) -> GaugeStats | None:
        """What it was in the last `frames`; None where nobody set it."""
        return gauge_stats(self.values(frame - frames + 1, frame))


class SketchTrack:
    """A histogram: its values as blocks of seconds, tens of seconds and minutes."""

    __slots__ = ("_blocks", "_buckets", "_total", "all_buckets", "all_total", "counts")

    def __init__(self, frame: int) -> None:
        self.counts = CounterTrack(frame)
        self._buckets: dict[int, int] = {}
        self._total = 0.0
        self._blocks: dict[int, dict[int, Block]] = {seconds: {} for seconds, _ in _TIERS}
        self.all_buckets: dict[int, int] = {}
        self.all_total = 0.0

    def add(self, total: float, buckets: dict[int, int]) -> None:
        """Values have come within the frame that is under way."""
        self._total += total
        self.all_total += total
        for into in (self._buckets, self.all_buckets):
            for slot, count in buckets.items():
                into[slot] = into.get(slot, 0) + count
        self.counts.add(sum(buckets.values()))

    def end(self, frame: int) -> None:
        """The frame is over; ten of them, or sixty, become one more block."""
        self.counts.end(frame)
        if self._buckets:
            self._blocks[1][frame] = _packed(self._total, self._buckets)
            self._buckets, self._total = {}, 0.0
        for fine, coarse in ((1, 10), (10, 60)):
            if (frame + 1) % coarse == 0:
                first = frame + 1 - coarse
                self._fold(range(first // fine, (frame + 1) // fine), fine, coarse, first // coarse)
        for seconds, most in _TIERS:
            self._blocks[seconds].pop(frame // seconds - most, None)

    def sketch(self, first: int, last: int, scale: float) -> Sketch | None:
        """The values of the frames from `first` to `last`; beyond ten minutes to the nearest ten seconds."""
        buckets: dict[int, int] = {}
        total, frame = 0.0, max(first, 0)
        while frame <= last:
            seconds, block = self._largest(frame, last)
            frame = (frame // seconds + 1) * seconds
            if block is not None:
                total += block[0]
                for slot, count in zip(block[1], block[2], strict=True):
                    buckets[slot] = buckets.get(slot, 0) + count
        return Sketch(buckets, total, scale) if buckets else None

    def _largest(self, frame: int, last: int) -> tuple[int, Block | None]:
        """The largest stretch that begins at a frame and ends by `last`, and what was in it."""
        newest = self.counts.newest
        for seconds, most in _TIERS:
            is_whole = frame % seconds == 0 and frame + seconds - 1 <= min(last, newest)
            if is_whole and newest // seconds - frame // seconds < most:
                return seconds, self._blocks[seconds].get(frame // seconds)
        for seconds, most in _TIERS[1::-1]:  # older than the seconds that are kept
            if newest // seconds - frame // seconds < most:
                return seconds, self._blocks[seconds].get(frame // seconds) if frame % seconds == 0 else None
        return 1, None

    def _fold(self, parts: range, fine: int, coarse: int, place: int) -> None:
        buckets: dict[int, int] = {}
        total = 0.0
        for part in parts:
            block = self._blocks[fine].get(part)
            if block is not None:
                total += block[0]
                for slot, count in zip(block[1], block[2], strict=True):
                    buckets[slot] = buckets.get(slot, 0) + count
        if buckets:
            self._blocks[coarse][place] = _packed(total, buckets)


def gauge_stats(values: list[float]) -> GaugeStats | None:
    """What looks at a gauge make together."""
    if not values:
        return None
    return GaugeStats(sum(values) / len(values), min(values), max(values), len(values))


def _packed(total: float, buckets: dict[int, int]) -> Block:
    return total, array("H", buckets.keys()), array("L", buckets.values())
