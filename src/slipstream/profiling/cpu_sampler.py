"""Looks at all stacks of this process, again and again, and takes down where CPU time was used.

Each look is weighted with the CPU time that the thread it looks at has used since the last one, read from
that thread's own clock. So threads that wait weigh nothing, and a call that holds the interpreter's lock for
a second, during which nobody can look, weighs its whole second at the next look.

The main thread looks itself, asked by an alarm after each so much CPU time of the process (`SIGPROF`): that
costs a quarter of what it does to wake another thread and hand it the interpreter's lock, and nothing where
nothing is used. The sampler's own thread looks where the alarm does not: with another owner of the signal, a
start from another thread, and while the main thread is in a call that lets others run.
"""

import asyncio
import atexit
import bisect
import signal
import sys
import threading
import time
from collections import Counter
from types import CodeType, FrameType

from slipstream.core import clock
from slipstream.core.errors import ConfigurationError
from slipstream.profiling.cpu_profile import CpuProfile, Frame, Sample
from slipstream.profiling.stalls import ALARMS, striking
from slipstream.profiling.threads import begin

DEPTH_MAX = 128
"""Frames kept of a stack, the innermost ones."""
STACKS_MAX = 20_000
"""Different stacks that are told apart; what is beyond is summed up as one."""
CODES_MAX = 100_000
"""Pieces of code that are told apart; stacks of a program that makes ever new ones are summed up likewise."""
IDLE_SECONDS = 600.0
"""A sampler nobody has asked for so long ends by itself."""
SPARE_PERIODS = 5
"""Beside the alarm the thread wakes so many times less often …"""
MISSED_PERIODS = 3
"""… and looks where nobody has for so long."""

Stack = tuple[int, ...]
"""Piece of code (its address) and place in it, and the next one's, the innermost frame first."""
_BEYOND: Stack = ()


class Sampler(threading.Thread):
    """What looks. What it costs is measured by the clock of the thread that does, and told in the profile.

    Raises `ConfigurationError` where the system does not tell the CPU time of threads, `Unavailable` where it
    allows no thread more.
    """

    def __init__(self, period_seconds: float) -> None:
        super().__init__(name="slipstream-cpu-profiler", daemon=True)
        _require_clocks()
        self._period_seconds = period_seconds
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._loops = running_loops()
        self._used_ns: dict[int, int] = {}
        self._struck_by: set[int] = set()
        self._has_alarm = False
        self._begin()
        begin(self)
        with self._lock:
            self._look()
        self._has_alarm = _ALARM.take(self, period_seconds)

    def take(self) -> CpuProfile:
        """What was seen since the last call."""
        with self._lock:
            profile = self._profile()
            self._begin()
        self._loops.update(running_loops())
        return profile

    def end(self) -> CpuProfile:
        """The same, and the end."""
        _ALARM.leave(self)
        self._over.set()
        self.join(5.0)
        with self._lock:
            return self._profile()

    @property
    def is_over(self) -> bool:
        """Whether nobody needs its looks any more."""
        return self._over.is_set() or not self.is_alive()

    def run(self) -> None:
        """Look until told to end, or nobody has asked for long."""
        while not self._over.wait(self._period_seconds * (SPARE_PERIODS if self._has_alarm else 1)):
            now_ns = clock.monotonic_ns()
            with self._lock:
                if now_ns - self._began_ns > IDLE_SECONDS * 1e9:
                    break
                if (
                    not self._has_alarm
                    or now_ns - self._looked_ns > MISSED_PERIODS * self._period_seconds * 1e9
                ):
                    self._look()
        with self._lock:
            self._look()
        _ALARM.leave(self)

    def rung(self) -> None:
        """The main thread has used its time: it looks, unless somebody just has."""
        if clock.monotonic_ns() - self._looked_ns < self._period_seconds / 2 * 1e9:
            return  # with many threads at work the alarm, which goes by the time of all, rings more often
        if self._lock.acquire(blocking=False):  # it may be the main thread itself that holds it
            try:
                self._look()
            finally:
                self._lock.release()

    def _begin(self) -> None:
        self._began_ns = self._looked_ns = clock.monotonic_ns()
        self._own_ns = 0
        self._looks = 0
        self._seen: dict[tuple[Stack, str], int] = {}
        self._code: dict[int, CodeType] = {}

    def _look(self) -> None:
        began_ns = time.thread_time_ns()
        used_before, used_now = self._used_ns, {}
        self._struck_by = striking()
        # While we hold the interpreter's lock no thread of this list can end: its clock is there.
        for ident, frame in sys._current_frames().items():
            if ident == self.ident:
                continue
            used_ns = time.clock_gettime_ns(time.pthread_getcpuclockid(ident))
            used_now[ident] = used_ns
            weight_ns = used_ns - used_before.get(ident, used_ns)
            if weight_ns > 0:
                self._count(self._stack(frame), self._tag(ident), weight_ns)
        ended_ns, me = time.thread_time_ns(), threading.get_ident()
        if me in used_now:
            used_now[me] = ended_ns  # looking is not what the thread itself did
        self._used_ns = used_now
        self._looks += 1
        self._looked_ns = clock.monotonic_ns()
        self._own_ns += ended_ns - began_ns

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


class _Alarm:
    """The one `SIGPROF` of a process, and who is told. Its handler stays: by default the signal kills."""

    def __init__(self) -> None:
        self._owner: Sampler | None = None

    def take(self, sampler: Sampler, period_seconds: float) -> bool:
        """Whether it rings for this sampler from now on."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            return False
        if self._owner is not None and not self._owner.is_over:
            return False
        held_by = signal.getsignal(signal.SIGPROF)
        if held_by is not signal.SIG_DFL and held_by is not _ring:
            return False
        self._owner = sampler
        signal.signal(signal.SIGPROF, _ring)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, period_seconds, period_seconds)
        return True

    def leave(self, sampler: Sampler) -> None:
        """It rings for this one no more."""
        if self._owner is sampler:
            self._owner = None
            if signal.getsignal(signal.SIGPROF) is _ring:
                signal.setitimer(signal.ITIMER_PROF, 0.0)

    def disarm(self) -> None:
        """At the end of the program, before Python gives the signal back: by default it kills."""
        if self._owner is not None:
            self.leave(self._owner)

    def rung(self) -> None:
        """Tell whom it rings for."""
        if self._owner is not None:
            self._owner.rung()


def _ring(number: int, frame: FrameType | None) -> None:
    _ALARM.rung()


_ALARM = _Alarm()
atexit.register(_ALARM.disarm)
ALARMS.append(_ring.__code__)


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


def running_loops() -> dict[int, asyncio.AbstractEventLoop]:
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
