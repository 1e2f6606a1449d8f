"""Stall blame: when an event loop stands still, which line held it, which task that was, and for how long.

A heartbeat on the loop says when it turns. A watcher, in a thread, looks ten times a second: where the beat
is late it reads the loop's stack and current task under the interpreter's lock. A call into C that holds the
lock keeps the watcher waiting; the interpreter hands the lock over right after that call, in the same
instruction, so the line that the watcher then reads is the call's own.

Not `faulthandler`, whose thread needs no lock: beside running Python code it reads frames that change, and
ended the process with a segmentation fault after a few dumps (docs/decisions/0025).
"""

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Literal

import msgspec
from msgspec import Struct

from slipstream.core import clock

BEAT_SECONDS = 0.1
LOOK_SECONDS = 0.1
STALL_SECONDS = 0.1
"""A beat that is later by this is a stall (Clinic.js' doctor calls a loop ill from a delay of 100 ms on)."""
KEPT_MAX = 128
STACK_MAX = 32

_LOOP_FILES = ("asyncio/runners.py", "asyncio/base_events.py")
_LOOP_FUNCTIONS = frozenset({"run", "run_forever", "run_until_complete", "_run_once"})
"""Frames of a loop: what is within them it called. uvloop's own are in C and do not show."""
_SELECTORS = ("/selectors.py",)


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
        victims: how many others had to wait, at least; None where the watch was not told.
        kind: `loop`: a call held it; `gc`: Python's garbage collection did, for the whole process.
    """

    wall_ns: int
    seconds: float
    stack: tuple[Place, ...]
    task: str
    victims: int | None
    kind: Literal["loop", "gc"] = "loop"

    @property
    def ran(self) -> tuple[Place, ...]:
        """The part of the stack that the loop called; empty where the loop itself waited for the CPU."""
        inner: list[Place] = []
        for place in self.stack:
            if place.file.endswith(_LOOP_FILES) and place.function in _LOOP_FUNCTIONS:
                return () if inner and inner[-1].file.endswith(_SELECTORS) else tuple(inner)
            inner.append(place)
        return tuple(inner)

    @property
    def culprit(self) -> Place | None:
        """The line that held the loop: the innermost one that is not of Python's own library."""
        ran = self.ran
        for place in ran:
            if not is_library(place.file):
                return place
        return ran[0] if ran else None

    def __str__(self) -> str:
        who = f" in task {self.task}" if self.task else ""
        others = f", {self.victims} others waited" if self.victims else ""
        if self.kind == "gc":
            where = f" at {self.culprit}" if self.culprit else ""
            return f"a garbage collection{where} held the process for {self.seconds:.3f} s{who}{others}"
        if self.stack and not self.ran:
            return f"the process was not given the CPU for {self.seconds:.3f} s{others}"
        return f"{self.culprit or 'somebody'} held the event loop for {self.seconds:.3f} s{who}{others}"


class StallWatch:
    """Watches the running loop from `start` to `stop`.

    Args:
        on_stall: called on the loop, two turns after each stall: by then it has seen who came meanwhile.
        victims: how many others than the task of a name are under way: those whom a stall delayed.
            Asked on the loop, and in a thread of the watch while the loop stands.
        stall_seconds: what counts as one.
    """

    def __init__(
        self,
        on_stall: Callable[[Stall], None] | None = None,
        *,
        victims: Callable[[str], int] | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.stalls: deque[Stall] = deque(maxlen=KEPT_MAX)
        self.count = 0
        self.total_seconds = 0.0
        self._on_stall = on_stall
        self._victims = victims
        self._stall_seconds = stall_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._beat_ns = 0
        self._task = ""
        self._ran: tuple[Place, ...] = ()
        self._waiting = 0  # of the victims, those seen while it stood
        self._looked_ns = 0  # the beat after which the watcher has looked
        self._over = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Begin, on the running loop; once."""
        if self._watcher is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._over = threading.Event()
        self._beat_ns = clock.monotonic_ns()
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)
        self._watcher = threading.Thread(
            target=self._watch, args=(self._over,), name="slipstream-stalls", daemon=True
        )
        self._watcher.start()

    def stop(self) -> None:
        """End; harmless where it does not run."""
        if self._watcher is None:
            return
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()
        self._watcher = None

    def _beat(self) -> None:
        now_ns = clock.monotonic_ns()
        seconds = (now_ns - self._beat_ns) / 1e9 - BEAT_SECONDS
        self._beat_ns = now_ns
        if seconds > self._stall_seconds:
            self._note(seconds)
        self._task, self._ran, self._waiting = "", (), 0
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)

    def _note(self, seconds: float) -> None:
        waiting = self._waiting if self._victims is not None else None
        stall = Stall(clock.wall_ns(), seconds, self._ran, self._task, waiting)
        self.count += 1
        self.total_seconds += seconds
        self._loop.call_soon(self._loop.call_soon, self._tell, stall)

    def _tell(self, stall: Stall) -> None:
        """The loop has turned since, and taken in what had come: now it shows who waited too."""
        if self._victims is not None:
            victims = max(stall.victims or 0, self._victims(stall.task))
            stall = msgspec.structs.replace(stall, victims=victims)
        self.stalls.append(stall)
        if self._on_stall is not None:
            self._on_stall(stall)

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            late = (clock.monotonic_ns() - self._beat_ns) / 1e9 > BEAT_SECONDS + self._stall_seconds / 2
            if late and self._looked_ns != self._beat_ns and not self._loop.is_closed():
                self._look()

    def _look(self) -> None:
        """Read what the loop does: it cannot go on while we hold the interpreter's lock."""
        self._looked_ns = self._beat_ns
        task = asyncio.current_task(self._loop)
        self._task = task.get_name() if task is not None else ""
        self._ran = _places(sys._current_frames().get(self._ident))
        if self._victims is not None:
            self._waiting = self._victims(self._task)


def is_library(file: str) -> bool:
    """Whether a file is of Python's own library, installed packages left out."""
    return file.startswith("<frozen ") or (file.startswith(_LIBRARY) and "site-packages" not in file)


_LIBRARY = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 (a prefix of text, no path)


def gc_stall(seconds: float, victims: int | None, *, above: int = 0) -> Stall:
    """A garbage collection of this thread that has just ended, with where it struck: `above` our caller."""
    return Stall(clock.wall_ns(), seconds, _places(sys._getframe(1 + above)), _task_name(), victims, "gc")


def _places(frame: FrameType | None) -> tuple[Place, ...]:
    """A stack, innermost first."""
    places: list[Place] = []
    while frame is not None and len(places) < STACK_MAX:
        code = frame.f_code
        places.append(Place(code.co_filename, frame.f_lineno or 0, code.co_name))
        frame = frame.f_back
    return tuple(places)


def _task_name() -> str:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return ""
    return task.get_name() if task is not None else ""
