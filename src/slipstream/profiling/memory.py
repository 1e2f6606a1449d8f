"""Where this process's memory goes: its size and trend always, growth by line while it is asked for.

The size is one read of /proc and costs microseconds. Lines are taken down in a window that is asked for:
through memray where it is installed, through `tracemalloc` only on demand, because it makes programs that
allocate slower by a factor of 10 and more (docs/decisions/0026). What it costs in this very program is
measured and told.
"""

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from slipstream.core import clock
from slipstream.core.errors import BadRequest, ConfigurationError
from slipstream.profiling.forks import begin_anew
from slipstream.profiling.memory_profile import PARTS, By, MemoryProfile, Seen, Size, suspects, trend
from slipstream.profiling.threads import in_thread

if TYPE_CHECKING:
    import psutil

    from slipstream.profiling.memory_windows import Window

FILE_BYTES_MAX = 64_000_000
"""Of memray's file: a window ends early when it fills more. Reading so much takes some 5 s of one core."""
SIZES_MAX = 512
"""Sizes that are remembered for the trend."""
SECONDS_MAX = 3_600.0
LOOK_SECONDS = 0.05
"""How often it is looked whether a window must end early."""
NO_MEMRAY = (
    "No lines: memray is not installed (pip install 'slipstream[profiling]'). "
    'by="tracemalloc" works without, and slows what allocates by a factor of 10 and more.'
)


class MemoryProfiler:
    """Tells how large this process is, how it grows, and where from.

    ```python
    memory_profiler.profile_memory()              # size now, trend since the first call
    print(memory_profiler.profile_memory(seconds=10))   # and what grew meanwhile, by line
    ```

    Args:
        file_bytes_max: memray writes what it sees into a file in a private folder, which is removed in any
            case; a window whose file grows beyond so many bytes ends early, and says so.
    """

    def __init__(self, *, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        self._file_bytes_max = file_bytes_max
        self.forked()
        begin_anew(self)

    def forked(self) -> None:
        """A forked child is another process: sizes are its own."""
        self._sizes: deque[Size] = deque(maxlen=SIZES_MAX)
        self._lock = threading.Lock()
        self._process: psutil.Process | None = None

    def note(self) -> None:
        """Take down the size now, for the trend: once a second is enough, and costs 20 us."""
        self._sized()

    def profile_memory(self, seconds: float | None = None, *, by: By | None = None) -> MemoryProfile:
        """The size of this process, and its trend over the calls of this method.

        Args:
            seconds: take down allocations by line for so long; blocks meanwhile. In a coroutine:
                `await aprofile_memory(seconds)`. None: returns at once.
            by: `memray`: cheap; blocks of 512 bytes and less are seen as the arenas of 1 MB which they fill.
                `memray-objects`: every object, several times slower. `tracemalloc`: every object of Python,
                slowest, needs nothing installed. None: memray where it is installed, else no lines.

        Raises `BadRequest` in a coroutine, for a wrong value and while another window is open in this
        process; `MissingExtra` where memray is asked for and not there; `ConfigurationError` where the
        system refuses what it needs: a file to write to, or the size of this process.
        """
        if seconds is None:
            return self._now()
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
        by = by or _best()
        if by is None:
            time.sleep(seconds)
            return self._now(note=NO_MEMRAY)
        looking = self._open(by, seconds)
        try:
            for rest in looking.waits():
                time.sleep(rest)
            looking.stop()
            return self._now(looking, looking.window.read())
        finally:
            looking.window.end()

    async def aprofile_memory(self, seconds: float, *, by: By | None = None) -> MemoryProfile:
        """The same for coroutines: the loop goes on meanwhile."""
        _check(seconds)
        by = by or _best()
        if by is None:
            await asyncio.sleep(seconds)
            return self._now(note=NO_MEMRAY)
        opening = asyncio.ensure_future(in_thread(self._open, by, seconds))
        try:
            looking = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_end_when_open)
            raise
        try:
            for rest in looking.waits():
                await asyncio.sleep(rest)
            await in_thread(looking.stop)
            return self._now(looking, await in_thread(looking.window.read))
        finally:
            looking.window.end()

    def _open(self, by: By, seconds: float) -> "_Looking":
        from slipstream.profiling.memory_windows import open_window  # late: most processes never do

        return _Looking(by, seconds, open_window(by, seconds, file_bytes_max=self._file_bytes_max))

    def _now(
        self, looking: "_Looking | None" = None, seen: Seen | None = None, note: str = ""
    ) -> MemoryProfile:
        sizes = self._sized()
        size = sizes[-1]
        plain = MemoryProfile(
            rss_bytes=size.rss_bytes,
            virtual_bytes=size.virtual_bytes,
            peak_bytes=max(each.rss_bytes for each in sizes),
            trend=trend(sizes),
            garbage_objects=gc.get_count()[0],
            note=note,
        )
        if looking is None or seen is None:
            return plain
        return msgspec.structs.replace(
            plain,
            growth=seen.kept,
            suspects=suspects(seen.kept),
            peak=seen.peak,
            by=looking.by,
            window_seconds=looking.seconds,
            tracing_cost=looking.window.cost,
            note=looking.note,
        )

    def _sized(self) -> tuple[Size, ...]:
        with self._lock:
            import psutil  # late: a program that never asks spares it

            try:
                if self._process is None:
                    self._process = psutil.Process()
                memory = self._process.memory_info()
            except (OSError, psutil.Error) as error:
                raise ConfigurationError(
                    f"The size of this process cannot be read: {error}.",
                    hint="Let it read /proc, and open as many files as it needs (`ulimit -n`).",
                ) from None
            self._sizes.append(Size(clock.monotonic_ns(), memory.rss, memory.vms))
            return tuple(self._sizes)


class _Looking:
    """A window while it is open: for how long, and whether it ended early."""

    def __init__(self, by: By, seconds: float, window: "Window") -> None:
        self.by = by
        self.window = window
        self.seconds = 0.0
        self.note = ""
        self._asked = seconds
        self._began_ns = clock.monotonic_ns()

    def waits(self) -> Iterator[float]:
        """Seconds to wait, again and again, until it is over."""
        part = 1
        while (rest := self._asked - self._since()) > 0:
            if why := self.window.full():
                self.note = f"The window ended after {self._since():.1f} s of {self._asked:g}: {why}."
                return
            if self._since() >= self._asked * part / PARTS:
                part += 1
                self.window.part_over()
            yield min(rest, LOOK_SECONDS)

    def stop(self) -> None:
        """It is over."""
        self.seconds = self._since()
        self.window.stop()

    def _since(self) -> float:
        return (clock.monotonic_ns() - self._began_ns) / 1e9


def _end_when_open(opening: "asyncio.Future[_Looking]") -> None:
    """Who asked has gone while the window opened."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().window.end()


def _best() -> By | None:
    from slipstream.profiling.memory_windows import installed

    return "memray" if installed() else None


def _check(seconds: float) -> None:
    if not 0 < seconds <= SECONDS_MAX:
        raise BadRequest(f"A profile takes up to {SECONDS_MAX:g} seconds, not {seconds!r}.", param="seconds")


memory_profiler = MemoryProfiler()
"""The profiler of this process."""
