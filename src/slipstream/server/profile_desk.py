"""The supervisor's side of profiling: keeps stalls, asks every process for profiles, makes tables of steps.

It knows no HTTP; the routes are the gateway's (`profiling_api`).
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal

from msgspec import Struct

from slipstream.config.profiling import Profiling
from slipstream.core import clock
from slipstream.core.errors import BadRequest, ConfigurationError, Unavailable
from slipstream.core.record import Record
from slipstream.core.use import USE, UseRow
from slipstream.profiling.memory_profile import By, MemoryProfile
from slipstream.profiling.packed import PackedProfile
from slipstream.profiling.recorded import StepsReport, steps_report
from slipstream.profiling.stalls import Place, Stall
from slipstream.server.loop_book import LoopBook
from slipstream.server.messages import Profile, Profiled, Unwanted
from slipstream.server.recording import Recorder
from slipstream.server.self_profile import looked
from slipstream.server.slots import Slot, SlotState
from slipstream.store.records import RecordFilter
from slipstream.store.rows import Row

What = Literal["cpu", "memory"]
SUPERVISOR = "supervisor"
ANSWER_SECONDS: dict[What, float] = {"cpu": 15.0, "memory": 60.0}
"""For a process that is busy to put its answer together, on top of the time it looks. Allocations are read
from a file of up to 64 MB, by all processes at once."""
STACKS_MAX = 16_000
"""Stacks of one profile, all processes together: about 6 MB."""
RATE_SECONDS = 1.0
"""Rates of the table of use are of at least so long a time: whoever asks sooner is told the same again."""
RATE_SECONDS_MAX = 10.0
"""A look this long ago says nothing of now."""
PAGE = 500
REQUEST_ID = "req_"


class StallRow(Struct, frozen=True):
    """A stall as pages and commands are told.

    Attributes:
        process: whose event loop it was.
        kind: `loop` or `gc`.
        at: when it was over, seconds since 1970.
        where: the line that held the loop, None where it is not known.
        request: id of the request that was being worked on, empty where it was none.
        task: name of the task otherwise.
        others: requests that it delayed, for up to `seconds` each.
        stack: innermost first.
        said: the same in words.
    """

    process: str
    kind: str
    at: float
    seconds: float
    where: Place | None
    request: str
    task: str
    others: int | None
    stack: tuple[Place, ...]
    said: str


class StallList(Struct, frozen=True):
    """The stalls that are kept, newest first; `dropped` older ones are not."""

    watched: bool
    stalls: tuple[StallRow, ...]
    count: int
    dropped: int


class ProcessProfile(Struct, frozen=True):
    """What one process saw of itself; `error` where it saw nothing."""

    process: str
    pid: int
    cpu: PackedProfile | None = None
    memory: MemoryProfile | None = None
    error: str = ""


class ServerProfile(Struct, frozen=True):
    """A profile of every process of the server."""

    what: What
    seconds: float
    at: float
    processes: tuple[ProcessProfile, ...]


class UseList(Struct, frozen=True):
    """How full each resource and each part of the server is."""

    rows: tuple[UseRow, ...]


class ProfileDesk:
    """What can be asked about where the server's time and memory go.

    Args:
        settings: bounds.
        slots: the workers.
        recorder: the records.
        resources: makes what gives the rows of the machine's resources, which may raise `ConfigurationError`;
            called in a thread.
        pooled: names of upstreams that are reached through a pool of connections.
    """

    def __init__(
        self,
        settings: Profiling,
        slots: Sequence[Slot],
        recorder: Recorder,
        *,
        resources: Callable[[], Callable[[], Sequence[UseRow]]],
        pooled: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._recorder = recorder
        self._make_resources = resources
        self._resources: Callable[[], Sequence[UseRow]] | None = None
        self._looked: Sequence[UseRow] = ()
        self._looked_ns = 0
        self._reading = asyncio.Lock()
        self._stalls: deque[StallRow] = deque()
        self._count = 0
        self._loops = LoopBook(lambda: len(slots), is_watched=settings.stalls, pooled=pooled)
        self._number = 0
        self._running = False
        self._waiting: dict[str, asyncio.Future[ProcessProfile]] = {}
        self._last: dict[What, ServerProfile] = {}

    # Stalls.

    def stalled(self, process: str, stall: Stall) -> None:
        """Keep one more."""
        self._count += 1
        self._stalls.append(_row(process, stall))
        self._loops.stalled(process, stall)
        while len(self._stalls) > self._settings.kept:
            self._stalls.popleft()

    def served(self, process: str, rows: Sequence[Row]) -> None:
        """A worker has sent records of requests that it served."""
        self._loops.served(process, rows)

    def stalls(self) -> StallList:
        """Those that are kept."""
        kept = tuple(reversed(self._stalls))
        return StallList(self._settings.stalls, kept, self._count, self._count - len(kept))

    # Use.

    async def use(self) -> UseList:
        """Every resource and every part, of all processes.

        CPU, disk and network are rates between two looks, 1 to 10 seconds apart. Where nobody has looked
        that lately, it looks twice and answers after a second.
        """
        async with self._reading:
            passed = (clock.monotonic_ns() - self._looked_ns) / 1e9
            if not self._looked_ns or passed > RATE_SECONDS_MAX:
                await asyncio.to_thread(self._read_resources)
                await asyncio.sleep(passed := RATE_SECONDS)
            if passed >= RATE_SECONDS:
                self._looked = await asyncio.to_thread(self._read_resources)
                self._looked_ns = clock.monotonic_ns()
            rows = self._looked
        told = [(f"worker {slot.index}", slot.use) for slot in self._slots]
        told.append((SUPERVISOR, tuple(USE.rows())))
        return UseList((*rows, *_named(told)))

    def _read_resources(self) -> Sequence[UseRow]:
        try:
            if self._resources is None:
                self._resources = self._make_resources()
            return self._resources()
        except ConfigurationError as error:  # the parts of the server tell how they do all the same
            return [UseRow("cpu, memory, disk, network", limit=str(error))]

    # Profiles.

    def last(self, what: What) -> ServerProfile | None:
        """The last profile, if there was one since the server began."""
        return self._last.get(what)

    async def profile(self, what: What, seconds: float, *, by: By | None = None) -> ServerProfile:
        """Let every process look at itself for so long; one profile at a time. Cancelled, none looks further.

        Args:
            what: stacks or allocations.
            seconds: for how long.
            by: what takes allocations down; None: memray where it is installed, else nothing does.

        Raises `BadRequest` for a time beyond the setting, `Unavailable` (409) where one runs already.
        """
        if not 0 < seconds <= self._settings.seconds:
            raise BadRequest(
                f"A profile takes more than 0 and up to {self._settings.seconds:g} seconds, not {seconds!r}.",
                hint="Ask for as many, such as 10, or raise `profiling.seconds` in its settings.",
                param="seconds",
            )
        if self._running:
            raise Unavailable(
                "A profile runs already.", hint="Wait until it is done.", code="busy", status=409
            )
        self._running = True
        try:
            found = await self._profile(what, seconds, by)
        finally:
            self._running = False
            self._waiting.clear()
        self._last[what] = found
        return found

    def profiled(self, process: str, answer: Profiled) -> None:
        """A worker has looked at itself."""
        waiting = self._waiting.get(process)
        if waiting is not None and answer.number == self._number and not waiting.done():
            waiting.set_result(ProcessProfile(process, answer.pid, answer.cpu, answer.memory, answer.error))

    async def _profile(self, what: What, seconds: float, by: By | None) -> ServerProfile:
        self._number += 1
        asked = [slot for slot in self._slots if slot.state is SlotState.READY]
        stacks = STACKS_MAX // (len(asked) + 1)
        order = Profile(self._number, what, seconds, self._settings.hertz, stacks, by)
        loop = asyncio.get_running_loop()
        self._waiting = {f"worker {slot.index}": loop.create_future() for slot in asked}
        for slot in asked:
            slot.tell(order)
        try:
            own = await looked(order)
            if self._waiting:
                await asyncio.wait(self._waiting.values(), timeout=ANSWER_SECONDS[what])
        finally:  # whoever asked has left, or a process is late
            for slot, answer in zip(asked, self._waiting.values(), strict=True):
                if not answer.done():
                    slot.tell(Unwanted(order.number))
        processes = [
            answer.result() if answer.done() else ProcessProfile(process, 0, error="it did not answer")
            for process, answer in self._waiting.items()
        ]
        processes.append(ProcessProfile(SUPERVISOR, os.getpid(), own.cpu, own.memory, own.error))
        return ServerProfile(what, seconds, clock.wall_ns() / 1e9, tuple(processes))

    # Steps.

    async def steps(self, where: RecordFilter) -> StepsReport:
        """The steps of recorded requests, newest first up to the bound. Raises `StoreFailed`."""
        records: list[Record] = []
        most = self._settings.records
        before = ""
        while len(records) <= most:
            page = await self._recorder.page(min(PAGE, most + 1 - len(records)), before, where)
            records.extend(page)
            if not page or len(records) > most:
                break
            before = page[-1].id
        around = self._loops.surroundings()
        cut = len(records) > most
        return await asyncio.to_thread(steps_report, records[:most], cut=cut, surroundings=around)


def _row(process: str, stall: Stall) -> StallRow:
    is_request = stall.task.startswith(REQUEST_ID)
    return StallRow(
        process,
        stall.kind,
        stall.wall_ns / 1e9,
        stall.seconds,
        stall.culprit,
        stall.task if is_request else "",
        "" if is_request else stall.task,
        stall.victims,
        stall.stack,
        str(stall),
    )


def _named(told: Iterable[tuple[str, tuple[UseRow, ...]]]) -> list[UseRow]:
    """The rows of processes, each with its process before its own name."""
    return [
        UseRow(
            f"{process}: {row.part}",
            row.utilisation,
            row.saturation,
            row.saturation_unit,
            row.errors,
            row.limit,
        )
        for process, rows in told
        for row in rows
    ]
