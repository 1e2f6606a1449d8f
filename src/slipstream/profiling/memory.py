"""Where this process's memory goes: its size and trend always, growth by line while it is asked for.

The size is one read of /proc and costs microseconds. Lines need `tracemalloc`, which makes programs that
allocate much slower by a factor of 10 and more; so it runs only in a window that is asked for, and its cost
in this very program is measured and told.
"""

import asyncio
import gc
import threading
import time
import tracemalloc
from collections import deque
from typing import TYPE_CHECKING

from slipstream.core import clock
from slipstream.core.errors import BadRequest
from slipstream.profiling.memory_profile import Growth, MemoryProfile, Size, cost_of_tracing, trend

if TYPE_CHECKING:
    import psutil

SIZES_MAX = 512
"""Sizes that are remembered for the trend."""
LINES_MAX = 25
SECONDS_MAX = 3_600.0


class MemoryProfiler:
    """Tells how large this process is, how it grows, and where from.

    ```python
    memory_profiler.profile_memory()              # size now, trend since the first call
    print(memory_profiler.profile_memory(seconds=10))   # and what grew meanwhile, by line
    ```
    """

    def __init__(self) -> None:
        self._sizes: deque[Size] = deque(maxlen=SIZES_MAX)
        self._lock = threading.Lock()
        self._process: psutil.Process | None = None

    def note(self) -> None:
        """Take down the size now, for the trend: once a second is enough, and costs 20 us."""
        self._sized()

    def profile_memory(self, seconds: float | None = None) -> MemoryProfile:
        """The size of this process, and its trend over the calls of this method.

        Args:
            seconds: watch allocations by line for so long; blocks, and slows the program meanwhile. In a
                coroutine: `await aprofile_memory(seconds)`. None: returns at once.
        """
        if seconds is None:
            return self._now(())
        _check(seconds)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise BadRequest(
                "profile_memory(seconds=…) would stop the event loop for that long.",
                hint="`await memory_profiler.aprofile_memory(seconds)`, or leave `seconds` out.",
            )
        window = _Window()
        try:
            time.sleep(seconds)
        finally:
            window.end()
        return self._now(window.growth, window.cost)

    async def aprofile_memory(self, seconds: float) -> MemoryProfile:
        """The same for coroutines: the loop goes on meanwhile."""
        _check(seconds)
        window = _Window()
        try:
            await asyncio.sleep(seconds)
        finally:
            window.end()
        return self._now(window.growth, window.cost)

    def _now(self, growth: tuple[Growth, ...], cost: float | None = None) -> MemoryProfile:
        sizes = self._sized()
        size = sizes[-1]
        return MemoryProfile(
            rss_bytes=size.rss_bytes,
            virtual_bytes=size.virtual_bytes,
            peak_bytes=max(each.rss_bytes for each in sizes),
            trend=trend(sizes),
            garbage_objects=sum(gc.get_count()),
            growth=growth,
            tracing_cost=cost,
        )

    def _sized(self) -> tuple[Size, ...]:
        with self._lock:
            if self._process is None:
                import psutil

                self._process = psutil.Process()
            memory = self._process.memory_info()
            self._sizes.append(Size(clock.monotonic_ns(), memory.rss, memory.vms))
            return tuple(self._sizes)


_TRACING = threading.Lock()


class _Window:
    """Traces allocations from its making to its `end`. One at a time in a process."""

    def __init__(self) -> None:
        if not _TRACING.acquire(blocking=False):
            raise BadRequest("Allocations are being traced already.", hint="Wait until that profile is done.")
        self.growth: tuple[Growth, ...] = ()
        self.cost: float | None = None
        self._was_tracing = tracemalloc.is_tracing()
        if not self._was_tracing:
            self.cost = cost_of_tracing()
            tracemalloc.start(1)
        self._before = tracemalloc.take_snapshot()

    def end(self) -> None:
        """Stop, and work out what grew."""
        try:
            gc.collect()
            after = tracemalloc.take_snapshot()
        finally:
            if not self._was_tracing:
                tracemalloc.stop()
            _TRACING.release()
        found = after.compare_to(self._before, "lineno")
        grown = sorted((each for each in found if each.size_diff > 0), key=lambda each: -each.size_diff)
        self.growth = tuple(
            Growth(frame.filename, frame.lineno, each.size_diff, each.count_diff)
            for each in grown[:LINES_MAX]
            for frame in each.traceback[:1]
            if frame.filename not in {tracemalloc.__file__, __file__}
        )


def _check(seconds: float) -> None:
    if not 0 < seconds <= SECONDS_MAX:
        raise BadRequest(f"A profile takes up to {SECONDS_MAX:g} seconds, not {seconds!r}.", param="seconds")


memory_profiler = MemoryProfiler()
"""The profiler of this process."""
