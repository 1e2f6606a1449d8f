"""Where the CPU time of this process goes: a thread looks at all stacks a hundred times a second.

Each look is weighted with the CPU time that the thread it looks at has used since the last one, read from
that thread's own clock. So threads that wait weigh nothing, and a call that holds the interpreter's lock for
a second, during which nobody can look, weighs its whole second at the next look.
"""

import asyncio
import bisect
import sys
import threading
import time
from collections import Counter
from types import CodeType, FrameType

from slipstream.core import clock
from slipstream.core.errors import BadRequest, ConfigurationError
from slipstream.profiling.cpu_profile import CpuProfile, Frame, Sample
from slipstream.profiling.forks import begin_anew
from slipstream.profiling.stall_watch import ALARM_CODE
from slipstream.profiling.stalls import collecting
from slipstream.profiling.threads import begin

HERTZ_MAX = 1_000
DEPTH_MAX = 128
"""Frames kept of a stack, the innermost ones."""
STACKS_MAX = 20_000
"""Different stacks that are told apart; what is beyond is summed up as one."""
CODES_MAX = 100_000
"""Pieces of code that are told apart; stacks of a program that makes ever new ones are summed up likewise."""
IDLE_SECONDS = 600.0
"""A sampler nobody has asked for so long ends by itself."""
SECONDS_MAX = 3_600.0

Stack = tuple[int, ...]
"""Piece of code (its address) and place in it, and the next one's, the innermost frame first."""
_BEYOND: Stack = ()


class CpuProfiler:
    """Samples the CPU time of every thread of this process while it is on.

    ```python
    cpu_profiler.profile_cpu()              # begins to sample; later: what was sampled since the last call
    print(cpu_profiler.profile_cpu(seconds=5))
    ```

    Args:
        hertz: looks a second. What they cost is told in every profile (`own_seconds`); for a worker of the
            server `bench/profiling.py` measures it.
    """

    def __init__(self, hertz: int = 100) -> None:
        if not 1 <= hertz <= HERTZ_MAX:
            raise BadRequest(f"A profiler looks 1 to {HERTZ_MAX} times a second, not {hertz}.", param="hertz")
        self._period_seconds = 1.0 / hertz
        self.forked()
        begin_anew(self)

    def forked(self) -> None:
        """In a forked child nobody looks yet."""
        self._lock = threading.Lock()
        self._sampler: _Sampler | None = None

    def profile_cpu(self, seconds: float | None = None) -> CpuProfile:
        """What the CPU time went to.

        Args:
            seconds: look for so long and return then; a running event loop in this thread would stand
                still, so `await aprofile_cpu(seconds)` there. None: what was seen since the last call, at
                once; the first call begins to look and returns an empty profile.

        Raises `ConfigurationError` where the system does not tell the CPU time of threads, `Unavailable`
        where it allows no thread more.
        """
        if seconds is None:
            return self._since_last()
        _check(seconds)
        if _is_loop_running():
            raise BadRequest(
                "profile_cpu(seconds=…) would stop the event loop for that long.",
                hint="`await cpu_profiler.aprofile_cpu(seconds)`, or leave `seconds` out.",
            )
        window = _Sampler(self._period_seconds)
        time.sleep(seconds)
        return window.end()

    async def aprofile_cpu(self, seconds: float) -> CpuProfile:
        """The same for coroutines: the loop goes on meanwhile, and samples name its tasks."""
        _check(seconds)
        window = _Sampler(self._period_seconds)
        try:
            await asyncio.sleep(seconds)
        finally:
            profile = window.end()
        return profile

    def stop(self) -> CpuProfile:
        """Look no more; what was seen since the last call."""
        with self._lock:
            sampler, self._sampler = self._sampler, None
        return sampler.end() if sampler is not None else CpuProfile((), 0.0, 0, 0.0)

    def _since_last(self) -> CpuProfile:
        with self._lock:
            if self._sampler is None or not self._sampler.is_alive():
                self._sampler = _Sampler(self._period_seconds)
                return CpuProfile((), 0.0, 0, 0.0)
            return self._sampler.take()


class _Sampler(threading.Thread):
    """The thread that looks. What it costs is measured by its own clock and told in the profile."""

    def __init__(self, period_seconds: float) -> None:
        super().__init__(name="slipstream-cpu-profiler", daemon=True)
        _require_clocks()
        self._period_seconds = period_seconds
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._loops = _running_loops()
        self._used_ns: dict[int, int] = {}
        self._struck_by: set[int] = set()
        self._begin()
        begin(self)

    def take(self) -> CpuProfile:
        """What was seen since the last call."""
        with self._lock:
            profile = self._profile()
            self._begin()
        self._loops.update(_running_loops())
        return profile

    def end(self) -> CpuProfile:
        """The same, and the end."""
        self._over.set()
        self.join(5.0)
        with self._lock:
            return self._profile()

    def run(self) -> None:
        """Look until told to end, or nobody has asked for long."""
        self._look()
        while not self._over.wait(self._period_seconds):
            with self._lock:
                self._look()
                if clock.monotonic_ns() - self._began_ns > IDLE_SECONDS * 1e9:
                    return
        with self._lock:
            self._look()

    def _begin(self) -> None:
        self._began_ns = clock.monotonic_ns()
        self._own_ns = 0
        self._looks = 0
        self._seen: dict[tuple[Stack, str], int] = {}
        self._code: dict[int, CodeType] = {}

    def _look(self) -> None:
        began_ns = time.thread_time_ns()
        me = threading.get_ident()
        used_before, used_now = self._used_ns, {}
        self._struck_by = _interrupters()
        # While we hold the interpreter's lock no thread of this list can end: its clock is there.
        for ident, frame in sys._current_frames().items():
            if ident == me:
                continue
            used_ns = time.clock_gettime_ns(time.pthread_getcpuclockid(ident))
            used_now[ident] = used_ns
            weight_ns = used_ns - used_before.get(ident, used_ns)
            if weight_ns > 0:
                self._count(self._stack(frame), self._tag(ident), weight_ns)
        self._used_ns = used_now
        self._looks += 1
        self._own_ns += time.thread_time_ns() - began_ns

    def _stack(self, frame: FrameType | None) -> Stack:
        """Numbers only: a line would cost eight times as much, the hash of a piece of code a microsecond."""
        code, stack, most = self._code, list[int](), 2 * DEPTH_MAX
        while frame is not None and len(stack) < most:
            its = frame.f_code
            address = id(its)
            if address in self._struck_by:  # the line below is the one that ran
                stack.clear()
                frame = frame.f_back
                continue
            if address not in code:
                if len(code) >= CODES_MAX:
                    return _BEYOND
                code[address] = its  # held, so that the address stays its own
            stack += (address, frame.f_lasti)
            frame = frame.f_back
        return tuple(stack)

    def _count(self, stack: Stack, tag: str, weight_ns: int) -> None:
        key = (stack, tag)
        if key not in self._seen and len(self._seen) >= STACKS_MAX:
            key = (_BEYOND, "")
        self._seen[key] = self._seen.get(key, 0) + weight_ns

    def _tag(self, ident: int) -> str:
        loop = self._loops.get(ident)
        if loop is None or loop.is_closed():
            return ""
        task = asyncio.current_task(loop)
        return task.get_name() if task is not None else ""

    def _profile(self) -> CpuProfile:
        lines, seen = _Lines(), Counter[tuple[tuple[Frame, ...], str]]()
        for (stack, tag), weight_ns in self._seen.items():
            places = zip(stack[::2], stack[1::2], strict=True)
            frames = [lines.frame(self._code[address], place) for address, place in places]
            seen[tuple(reversed(frames)), tag] += weight_ns
        samples = tuple(Sample(stack, tag, weight_ns) for (stack, tag), weight_ns in seen.most_common())
        seconds = (clock.monotonic_ns() - self._began_ns) / 1e9
        return CpuProfile(samples, seconds, self._looks, self._own_ns / 1e9)


def _interrupters() -> set[int]:
    """Addresses of code that stands on a stack uncalled: the stalls' alarm, callbacks of the collector.

    They run right after a call into C or a collection, as the sampler does, and would be told for both.
    """
    return {id(ALARM_CODE), *collecting()}


class _Lines:
    """The lines of places in code; each piece of code is taken apart once."""

    def __init__(self) -> None:
        self._starts: dict[CodeType, tuple[list[int], list[int]]] = {}

    def frame(self, code: CodeType, place: int) -> Frame:
        """The frame of a place."""
        found = self._starts.get(code)
        if found is None:
            spans = [(start, line) for start, _, line in code.co_lines() if line is not None]
            found = self._starts[code] = [start for start, _ in spans], [line for _, line in spans]
        starts, lines = found
        at = bisect.bisect_right(starts, place) - 1
        return Frame(code.co_qualname, code.co_filename, lines[at] if at >= 0 else code.co_firstlineno)


def _running_loops() -> dict[int, asyncio.AbstractEventLoop]:
    """The loop that runs in the calling thread, by thread."""
    try:
        return {threading.get_ident(): asyncio.get_running_loop()}
    except RuntimeError:
        return {}


def _require_clocks() -> None:
    try:
        time.clock_gettime_ns(time.pthread_getcpuclockid(threading.get_ident()))
    except (AttributeError, OSError):  # not on this system, or a sandbox refuses it
        raise ConfigurationError(
            "The CPU time of a thread cannot be read here.",
            hint="Linux tells it; in a sandbox, allow clock_gettime for the clocks of threads.",
        ) from None


def _is_loop_running() -> bool:
    return bool(_running_loops())


def _check(seconds: float) -> None:
    if not 0 < seconds <= SECONDS_MAX:
        raise BadRequest(f"A profile takes up to {SECONDS_MAX:g} seconds, not {seconds!r}.", param="seconds")


cpu_profiler = CpuProfiler()
"""The profiler of this process; samples nothing before its first call."""
