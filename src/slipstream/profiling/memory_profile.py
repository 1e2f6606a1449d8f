"""What a memory profiler saw, to be read and printed, and how a trend is told from noise."""

import math
import time
import tracemalloc
from collections.abc import Sequence

from msgspec import Struct

TREND_SIZES_MIN = 8
"""Fewer sizes make no trend."""
_ALLOCATIONS = 20_000


class Size(Struct, frozen=True):
    """How large the process was, and when (monotonic)."""

    at_ns: int
    rss_bytes: int
    virtual_bytes: int


class Trend(Struct, frozen=True):
    """Growth of the resident memory, by least squares; `interval` is the half width at 95 %."""

    bytes_per_second: float
    interval: float
    seconds: float

    @property
    def grows(self) -> bool:
        """Whether it grows beyond what the scatter of the sizes explains."""
        return self.bytes_per_second - self.interval > 0


class Growth(Struct, frozen=True):
    """What a line has allocated and not let go of in the window."""

    file: str
    line: int
    bytes: int
    blocks: int

    def __str__(self) -> str:
        return f"{'/'.join(self.file.rsplit('/', 2)[-2:])}:{self.line}"


class MemoryProfile(Struct, frozen=True):
    """A profile; printing it gives a table.

    Attributes:
        rss_bytes, virtual_bytes, peak_bytes: of this process; the peak is of the sizes that were seen.
        trend: None with fewer than 8 sizes.
        garbage_objects: objects that the collector has not looked at yet.
        growth: by line, largest first; empty unless a window was asked for. Leaks are among them: what is
            kept on purpose, such as a cache that fills, is too.
        tracing_cost: how many times slower allocating was in the window; None without one.
    """

    rss_bytes: int
    virtual_bytes: int
    peak_bytes: int
    trend: Trend | None
    garbage_objects: int
    growth: tuple[Growth, ...]
    tracing_cost: float | None

    @property
    def suspects(self) -> tuple[Growth, ...]:
        """Lines that hold at least a tenth of what grew, in blocks that were not let go of."""
        whole = sum(each.bytes for each in self.growth)
        return tuple(each for each in self.growth if each.bytes >= whole / 10 and each.blocks > 0)

    def __str__(self) -> str:
        lines = [
            f"RSS {_mb(self.rss_bytes)}, peak seen {_mb(self.peak_bytes)}, virtual {_mb(self.virtual_bytes)}"
        ]
        if self.trend is not None:
            rate, width = self.trend.bytes_per_second * 60, self.trend.interval * 60
            said = "grows" if self.trend.grows else "no growth beyond noise"
            lines.append(f"{said}: {_mb(rate)}/min ± {_mb(width)} over {self.trend.seconds:.0f} s")
        if self.growth:
            lines.append(f"grew in the window (allocating was {self.tracing_cost or 1:.1f} times slower):")
            lines.extend(
                f"  {_mb(each.bytes):>10} in {each.blocks:>7} blocks  {each}" for each in self.growth
            )
        return "\n".join(lines)


def trend(sizes: Sequence[Size]) -> Trend | None:
    """The line through the sizes with its 95 % interval; None for too few, or all of one moment."""
    if len(sizes) < TREND_SIZES_MIN:
        return None
    xs = [(each.at_ns - sizes[0].at_ns) / 1e9 for each in sizes]
    ys = [float(each.rss_bytes) for each in sizes]
    count = len(xs)
    x_mean, y_mean = math.fsum(xs) / count, math.fsum(ys) / count
    spread = math.fsum((x - x_mean) ** 2 for x in xs)
    if spread <= 0:
        return None
    slope = math.fsum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    left = math.fsum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    error = math.sqrt(left / (count - 2) / spread)
    return Trend(slope, 2.0 * error, xs[-1])


def cost_of_tracing() -> float:
    """How many times slower it is to allocate small objects while allocations are traced, here and now."""
    plain = _allocate()
    tracemalloc.start(1)
    try:
        traced = _allocate()
    finally:
        tracemalloc.stop()
    return max(1.0, traced / max(plain, 1))


def _allocate() -> int:
    began_ns = time.thread_time_ns()
    kept = [[at] for at in range(_ALLOCATIONS)]
    del kept
    return time.thread_time_ns() - began_ns


def _mb(count: float) -> str:
    return f"{count / 1e6:.1f} MB"
