"""Stall blame: when an event loop stands still, which line held it, which task that was, and for how long.

A heartbeat on the loop arms `faulthandler` anew ten times a second. Where a beat does not come, faulthandler
writes down all stacks from a thread of its own that needs no interpreter lock: the line is named even while
a call into C holds the lock. A second watcher, in Python, reads the loop's current task as soon as the lock
is free, which is while the guilty task still runs. The beat that comes late puts the two together.

Cost: arming 85 us, ten times a second, 0.1 % of a core (DESIGN §6). One watch a process: faulthandler has
one timer only.
"""

import asyncio
import faulthandler
import os
import re
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

from msgspec import Struct

from slipstream.core import clock
from slipstream.core.errors import ConfigurationError

BEAT_SECONDS = 0.1
STALL_SECONDS = 0.1
"""A beat that is later by this is a stall (Clinic.js' doctor calls a loop ill from a delay of 100 ms on)."""
KEPT_MAX = 128
DUMP_BYTES_MAX = 256 * 1024
STACK_MAX = 32

_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x(?P<ident>[0-9a-f]+)")


class Place(Struct, frozen=True):
    """A line of code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.function} ({'/'.join(self.file.rsplit('/', 2)[-2:])}:{self.line})"


class Stall(Struct, frozen=True):
    """One time that the loop stood still.

    Attributes:
        wall_ns: when it was over.
        seconds: for how long the loop did not turn.
        stack: where it stood, innermost first, taken while it stood; empty where it was too short.
        task: name of the task that ran, empty where none did or nobody could look in time.
        victims: how many others had to wait, as far as the watch was told; None where it was not.
    """

    wall_ns: int
    seconds: float
    stack: tuple[Place, ...]
    task: str
    victims: int | None

    @property
    def culprit(self) -> Place | None:
        """The line that held the loop: the innermost one that is not of Python's own library."""
        for place in self.stack:
            if not _is_library(place.file):
                return place
        return self.stack[0] if self.stack else None

    def __str__(self) -> str:
        who = f" in task {self.task}" if self.task else ""
        others = f", {self.victims} others waited" if self.victims else ""
        return f"{self.culprit or 'somebody'} held the event loop for {self.seconds:.3f} s{who}{others}"


class StallWatch:
    """Watches the running loop from `start` to `stop`.

    Args:
        on_stall: called on the loop, after each stall.
        victims: how many are under way now, so that a stall can say whom it delayed.
        stall_seconds: what counts as one.
    """

    def __init__(
        self,
        on_stall: Callable[[Stall], None] | None = None,
        *,
        victims: Callable[[], int] | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.stalls: deque[Stall] = deque(maxlen=KEPT_MAX)
        self.count = 0
        self.total_seconds = 0.0
        self._on_stall = on_stall
        self._victims = victims
        self._stall_seconds = stall_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._dump: TextIO | None = None
        self._beat_ns = 0
        self._task = ""
        self._over = threading.Event()

    def start(self) -> None:
        """Begin, on the running loop. Raises `ConfigurationError` where another watch runs already."""
        if not _ONE.acquire(blocking=False):
            raise ConfigurationError("One event loop of a process can be watched for stalls at a time.")
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._dump = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `stop`)
        self._over.clear()
        self._beat_ns = clock.monotonic_ns()
        self._schedule()
        threading.Thread(target=self._watch, name="slipstream-stalls", daemon=True).start()

    def stop(self) -> None:
        """End; harmless where it does not run."""
        if self._dump is None:
            return
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()
        faulthandler.cancel_dump_traceback_later()
        self._dump.close()
        self._dump = None
        _ONE.release()

    def _schedule(self) -> None:
        assert self._dump is not None
        faulthandler.dump_traceback_later(BEAT_SECONDS + self._stall_seconds, file=self._dump)
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        now_ns = clock.monotonic_ns()
        seconds = (now_ns - self._beat_ns) / 1e9 - BEAT_SECONDS
        self._beat_ns = now_ns
        faulthandler.cancel_dump_traceback_later()
        if seconds > self._stall_seconds:
            self._note(seconds)
        self._task = ""
        self._schedule()

    def _note(self, seconds: float) -> None:
        victims = self._victims() if self._victims is not None else None
        stall = Stall(clock.wall_ns(), seconds, self._stack(), self._task, victims)
        self.count += 1
        self.total_seconds += seconds
        self.stalls.append(stall)
        if self._on_stall is not None:
            self._on_stall(stall)

    def _stack(self) -> tuple[Place, ...]:
        """What faulthandler wrote down of the loop's thread, and room for the next time."""
        assert self._dump is not None
        number = self._dump.fileno()
        text = os.pread(number, DUMP_BYTES_MAX, 0).decode("utf-8", "replace")
        os.ftruncate(number, 0)
        os.lseek(number, 0, os.SEEK_SET)
        return stack_of(text, self._ident)

    def _watch(self) -> None:
        """Read which task runs, once a beat is late: at the first moment at which the lock is to be had."""
        period = self._stall_seconds / 2
        while not self._over.wait(period):
            late = (clock.monotonic_ns() - self._beat_ns) / 1e9 > BEAT_SECONDS + period
            if late and not self._task and not self._loop.is_closed():
                task = asyncio.current_task(self._loop)
                self._task = task.get_name() if task is not None else ""


_ONE = threading.Lock()


def stack_of(dump: str, ident: int) -> tuple[Place, ...]:
    """The stack of a thread in what faulthandler wrote, innermost first."""
    found: list[Place] = []
    is_ours = False
    for line in dump.splitlines():
        thread = _THREAD.match(line)
        if thread is not None:
            is_ours = int(thread["ident"], 16) == ident
        elif is_ours and (frame := _FRAME.match(line)) is not None and len(found) < STACK_MAX:
            found.append(Place(frame["file"], int(frame["line"]), frame["function"]))
    return tuple(found)


def _is_library(file: str) -> bool:
    return file.startswith(_LIBRARY) and "site-packages" not in file


_LIBRARY = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 (a prefix of text, no path)
