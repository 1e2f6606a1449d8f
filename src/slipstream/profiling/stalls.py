"""What held an event loop up, and how that is told: the line, the task, for how long, who waited. Pure data.

A stall may have several holders, one after the other in the same turn of the loop: each is told with the time
for which it was seen, and blamed is the one that was seen longest.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Literal

from msgspec import Struct

from slipstream.core import clock

STACK_MAX = 32
HOLDERS_MAX = 64
"""Holders of one stall that are told apart."""
ALSO_MAX = 3
WHOLE = 0.9
"""Who was seen for so much of a stall is said to have held the loop all the time."""

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


class Holder(Struct, frozen=True):
    """Who was seen in a stall.

    Attributes:
        task: name of the task that ran, empty where none did.
        stack: where it stood, innermost first.
        seconds: for how much of the stall it was seen.
    """

    task: str
    stack: tuple[Place, ...]
    seconds: float

    @property
    def culprit(self) -> Place | None:
        """Its line, as `Stall.culprit`."""
        return culprit(self.stack)


class Stall(Struct, frozen=True):
    """One time that the loop stood still.

    Attributes:
        wall_ns: when it was over.
        seconds: for how long the loop did not turn.
        stack: where it stood, innermost first, taken while it stood; empty where it was too short.
        task: name of the task that ran, empty where none did or nobody could look in time.
        victims: how many others had to wait, at least; None where the watch was not told.
        kind: `loop`: a call held it; `gc`: Python's garbage collection did, for the whole process.
        share: for how much of it the function that `stack` tells of was seen, 0..1.
        also: other functions that were seen in it, longest first, three at most.
        tasks: how many tasks ran that function, one after the other; `task` did longest.
    """

    wall_ns: int
    seconds: float
    stack: tuple[Place, ...]
    task: str
    victims: int | None
    kind: Literal["loop", "gc"] = "loop"
    share: float = 1.0
    also: tuple[Holder, ...] = ()
    tasks: int = 1

    @property
    def ran(self) -> tuple[Place, ...]:
        """The part of the stack that the loop called; empty where the loop itself waited for the CPU."""
        return ran(self.stack)

    @property
    def culprit(self) -> Place | None:
        """The line that held the loop: the innermost one that is not of Python's own library."""
        return culprit(self.stack)

    @property
    def held_seconds(self) -> float:
        """For how long the culprit held the loop, as far as was seen."""
        return self.seconds if self.share >= WHOLE else self.share * self.seconds

    def __str__(self) -> str:
        others = f", {self.victims} others waited" if self.victims else ""
        return f"{self._said()}{''.join(self._said_also())}{others}"

    def _said(self) -> str:
        who = f" in task {self.task}" if self.task else ""
        if self.tasks > 1:
            who += f" and {self.tasks - 1} more"
        if self.kind == "gc":
            where = f" at {self.culprit}" if self.culprit else ""
            return f"a garbage collection{where} held the process for {self.seconds:.3f} s{who}"
        time = f"{self.seconds:.3f} s"
        if self.share < WHOLE:
            time = f"{self.held_seconds:.3f} of {time}"
        if self.stack and not self.ran:
            return f"the process was not given the CPU, or the loop not the interpreter's lock, for {time}"
        return f"{self.culprit or 'somebody'} held the event loop for {time}{who}"

    def _said_also(self) -> Iterator[str]:
        for each in self.also:
            who = f" in task {each.task}" if each.task else ""
            yield f", {each.culprit or 'nothing of the program'} for {each.seconds:.3f} s{who}"


class Looks:
    """What was seen in the stall that lasts: by function, for how long, in which tasks. Bounded."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], _Function] = {}
        self._total = 0.0

    def clear(self) -> None:
        """The loop turns."""
        if self._seen:
            self._seen, self._total = {}, 0.0

    def add(self, task: str, stack: tuple[Place, ...], seconds: float) -> None:
        """Somebody is there, and was since the look before."""
        self._total += seconds
        place = culprit(stack)
        key = (place.file, place.function) if place is not None else ("", "")
        function = self._seen.get(key)
        if function is None:
            if len(self._seen) >= HOLDERS_MAX:
                return
            function = self._seen[key] = _Function()
        function.add(task, stack, seconds)

    def stall(self, wall_ns: int, seconds: float, victims: int | None) -> Stall:
        """The stall that is over."""
        seen = sorted(self._seen.values(), key=lambda each: -each.seconds)
        if not seen:
            return Stall(wall_ns, seconds, (), "", victims)
        first, rest = seen[0].holder(), seen[1 : 1 + ALSO_MAX]
        share = first.seconds / self._total if self._total > 0 else 1.0
        also = () if share >= WHOLE else tuple(each.holder() for each in rest)
        tasks = seen[0].count
        return Stall(wall_ns, seconds, first.stack, first.task, victims, "loop", share, also, tasks)


class _Function:
    """A function that was seen."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._tasks: dict[str, dict[tuple[Place, ...], float]] = {}

    @property
    def count(self) -> int:
        """Tasks that ran it, as far as they are told apart."""
        return len(self._tasks)

    def add(self, task: str, stack: tuple[Place, ...], seconds: float) -> None:
        self.seconds += seconds
        if task not in self._tasks and len(self._tasks) >= HOLDERS_MAX:
            return
        stacks = self._tasks.setdefault(task, {})
        if stack in stacks or len(stacks) < HOLDERS_MAX:
            stacks[stack] = stacks.get(stack, 0.0) + seconds

    def holder(self) -> Holder:
        """Told by the task that ran it longest, at the line where that was seen most."""
        task, stacks = max(self._tasks.items(), key=lambda each: sum(each[1].values()))
        return Holder(task, max(stacks, key=lambda stack: stacks[stack]), self.seconds)


def ran(stack: tuple[Place, ...]) -> tuple[Place, ...]:
    """The part of a stack that the loop called; empty where the loop itself waited."""
    inner: list[Place] = []
    for place in stack:
        if place.file.endswith(_LOOP_FILES) and place.function in _LOOP_FUNCTIONS:
            return () if inner and inner[-1].file.endswith(_SELECTORS) else tuple(inner)
        inner.append(place)
    return tuple(inner)


def culprit(stack: tuple[Place, ...]) -> Place | None:
    """The innermost line that is not of Python's own library, of what the loop called."""
    called = ran(stack)
    for place in called:
        if not is_library(place.file):
            return place
    return called[0] if called else None


def is_library(file: str) -> bool:
    """Whether a file is of Python's own library, installed packages left out."""
    return file.startswith("<frozen ") or (file.startswith(_LIBRARY) and "site-packages" not in file)


_LIBRARY = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 (a prefix of text, no path)


def gc_stall(seconds: float, victims: int | None) -> Stall:
    """A garbage collection of this thread that has just ended, with where it struck."""
    return Stall(clock.wall_ns(), seconds, places(sys._getframe(1)), task_name(), victims, "gc")


def places(frame: FrameType | None) -> tuple[Place, ...]:
    """A stack, innermost first, as it was called: what struck a line stands on no line's account."""
    found: list[Place] = []
    uncalled = striking()
    while frame is not None and len(found) < STACK_MAX:
        code = frame.f_code
        if id(code) in uncalled:
            found.clear()
        else:
            found.append(Place(code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_name))
        frame = frame.f_back
    return tuple(found)


ALARMS: list[CodeType] = []
"""What the alarms of this package run on top of whatever they struck."""


def striking() -> set[int]:
    """Addresses of code that stands on top of a line which never called it: of alarms, of the collector."""
    functions = (getattr(callback, "__func__", callback) for callback in gc.callbacks)
    collecting = (each.__code__ for each in functions if hasattr(each, "__code__"))
    return {id(code) for code in (*ALARMS, *collecting)}


def task_name() -> str:
    """The name of the task that runs in this thread, empty for none."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return ""
    return task.get_name() if task is not None else ""
