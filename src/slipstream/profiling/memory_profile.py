"""What a memory profiler saw, to be read and printed, and how a trend is told from noise."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

from slipstream.profiling.stalls import Place

By = Literal["memray", "memray-objects", "tracemalloc"]
"""What takes allocations down."""
TREND_BLOCKS = 10
"""Parts of the known time whose mean sizes make the trend; fewer sizes make none."""
TREND_SECONDS_MIN = 60.0
"""Before that a process is still warming up, or its allocator gives back once what it took twice."""
BLOCKS_MIN = 6
"""Of the ten so many must have a size: who looks once in a while knows no trend."""
_T_95 = {4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}
"""Student's t by degrees of freedom, 95 %."""
_AVERAGED = 1.5
"""Differences of means of a random walk follow each other (Working 1960: by a quarter), so that their mean
has so many times the variance of independent ones."""
PARTS = 4
"""Parts of a window of which it is told in how many a line grew."""
SUSPECT_PARTS = 3
SUSPECT_SHARE = 20
SUSPECT_BYTES = 16_000
"""Less is told as growth, and suspected of nothing."""
_SHOWN_LINES = 10
_SHOWN_STACK = 6
_SHOWN_PEAK = 5
_SEES = {
    "memray": "which sees blocks over 512 bytes one by one and smaller ones as the 1 MB arenas they fill",
    "memray-objects": "which sees every object",
    "tracemalloc": "which sees every object of Python",
}


class Size(Struct, frozen=True):
    """How large the process was, and when (monotonic)."""

    at_ns: int
    rss_bytes: int
    virtual_bytes: int


class Trend(Struct, frozen=True):
    """Growth of the resident memory; `interval` is the half width at 95 %.

    It is that of the differences between the means of ten parts of the time, so that neither a step, nor a
    size that wanders as those of allocators do, is taken for growth, as it would be by a line through all.
    """

    bytes_per_second: float
    interval: float
    seconds: float

    @property
    def is_short(self) -> bool:
        """Whether it is known for too short a time to say anything."""
        return self.seconds < TREND_SECONDS_MIN

    @property
    def grows(self) -> bool:
        """Whether it grows beyond what wandering explains, and long enough."""
        return not self.is_short and self.bytes_per_second - self.interval > 0

    def __str__(self) -> str:
        if self.is_short:
            return f"too short to tell whether it grows: {self.seconds:.0f} s"
        rate, width = self.bytes_per_second * 60, self.interval * 60
        said = "grows" if self.grows else "no growth beyond noise"
        return f"{said}: {_mb(rate)}/min ± {_mb(width)} over {self.seconds:.0f} s"


class Growth(Struct, frozen=True):
    """What a line has allocated in the window and not let go of; or what it held at the peak.

    Attributes:
        file, line: the innermost line of the stack that is not of Python's own library; without a file it
            was code that no Python called.
        bytes, blocks: how much, in how many blocks.
        parts: the bytes by when in the window they were allocated, its first quarter first.
        stack: of the largest part of it, innermost first.
    """

    file: str
    line: int
    bytes: int
    blocks: int
    parts: tuple[int, ...] = ()
    stack: tuple[Place, ...] = ()

    def __str__(self) -> str:
        if not self.file:
            return "code that no Python called"
        return f"{'/'.join(self.file.rsplit('/', 2)[-2:])}:{self.line}"


class Seen(Struct, frozen=True):
    """What a window saw: lines that kept bytes, and what lines held at the peak, largest first."""

    kept: tuple[Growth, ...] = ()
    peak: tuple[Growth, ...] = ()


class MemoryProfile(Struct, frozen=True):
    """A profile; printing it gives a table.

    Attributes:
        rss_bytes, virtual_bytes, peak_bytes: of this process; the peak is of the sizes that were seen.
        trend: None with fewer than 10 sizes, or where most of the time nobody looked.
        garbage_objects: objects that the collector has not looked at yet.
        growth: by line, largest first; empty unless a window was asked for. Leaks are among them: what is
            kept on purpose, such as a cache that fills, is too.
        suspects: leak suspects: lines of `growth` that hold a twentieth of it and 16 kB at least, and to
            which bytes came in at least three quarters of the window. What was kept once is none.
        peak: by line what the window's allocations held when they held most; memray only.
        by: what took the allocations: `memray`, `memray-objects`, `tracemalloc`; empty without a window.
        window_seconds: how long it looked; None without a window.
        tracing_cost: how many times slower a piece of work that allocates was in the window, measured in
            this process; None without one.
        note: what has to be said of the window: no memray here, or that it ended early.
    """

    rss_bytes: int
    virtual_bytes: int
    peak_bytes: int
    trend: Trend | None
    garbage_objects: int
    growth: tuple[Growth, ...] = ()
    suspects: tuple[Growth, ...] = ()
    peak: tuple[Growth, ...] = ()
    by: str = ""
    window_seconds: float | None = None
    tracing_cost: float | None = None
    note: str = ""

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            f"RSS {_mb(self.rss_bytes)}, peak seen {_mb(self.peak_bytes)}, virtual {_mb(self.virtual_bytes)}"
        )
        if self.trend is not None:
            yield str(self.trend)
        if self.note:
            yield self.note
        if self.by and self.window_seconds is not None:
            cost = f"work that allocates was {self.tracing_cost or 1:.1f} times slower meanwhile"
            yield f"{self.window_seconds:.1f} s of allocations by {self.by}, {_SEES[self.by]}; {cost}"
            yield from self._kept(self.window_seconds)

    def _kept(self, seconds: float) -> Iterator[str]:
        yield "kept at the end of the window:" if self.growth else "nothing was kept at the end of the window"
        yield from map(_row, self.growth[:_SHOWN_LINES])
        if len(self.growth) > _SHOWN_LINES:
            rest = self.growth[_SHOWN_LINES:]
            yield f"  {_mb(sum(each.bytes for each in rest)):>10} on {len(rest)} lines more"
        for each in self.suspects:
            grew = sum(part > 0 for part in each.parts)
            rate = f"{_mb(each.bytes / seconds)}/s in {grew} of {len(each.parts)} parts of the window"
            yield f"leak suspect: {each}, {rate}"
            yield from (f"      {place}" for place in each.stack[:_SHOWN_STACK])
        if self.growth and not self.suspects:
            yield "no leak suspect: no line kept more in most parts of the window"
        if self.peak:
            yield "held at the peak of the window:"
            yield from map(_row, self.peak[:_SHOWN_PEAK])


def suspects(growth: Sequence[Growth]) -> tuple[Growth, ...]:
    """The leak suspects among lines that grew: see `MemoryProfile`."""
    whole = sum(each.bytes for each in growth)
    return tuple(
        each
        for each in growth
        if each.bytes >= max(whole / SUSPECT_SHARE, SUSPECT_BYTES)
        and sum(part > 0 for part in each.parts) >= SUSPECT_PARTS
    )


def _row(each: Growth) -> str:
    return f"  {_mb(each.bytes):>10} in {each.blocks:>7} blocks  {each}"


def trend(sizes: Sequence[Size]) -> Trend | None:
    """The growth with its 95 % interval; None for fewer than ten sizes, or all of a few moments."""
    if len(sizes) < TREND_BLOCKS or sizes[-1].at_ns <= sizes[0].at_ns:
        return None
    first_ns, span_ns = sizes[0].at_ns, sizes[-1].at_ns - sizes[0].at_ns + 1
    groups = itertools.groupby(sizes, lambda each: (each.at_ns - first_ns) * TREND_BLOCKS // span_ns)
    blocks = [list(group) for _, group in groups]
    if len(blocks) < BLOCKS_MIN:
        return None
    times = [math.fsum(each.at_ns for each in block) / len(block) / 1e9 for block in blocks]
    means = [math.fsum(each.rss_bytes for each in block) / len(block) for block in blocks]
    slope = (means[-1] - means[0]) / (times[-1] - times[0])
    off = [
        after - before - slope * (then - at)
        for (before, after), (at, then) in zip(
            itertools.pairwise(means), itertools.pairwise(times), strict=True
        )
    ]
    variance = math.fsum(each * each for each in off) / (len(off) - 1)
    error = math.sqrt(_AVERAGED * variance * len(off)) / (times[-1] - times[0])
    return Trend(slope, _T_95[len(off) - 1] * error, (sizes[-1].at_ns - sizes[0].at_ns) / 1e9)


def _mb(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if abs(count) >= 100_000 else f"{count / 1e3:.1f} kB"
