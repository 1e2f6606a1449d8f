"""A slot holds one worker process: starts it, listens to it, and starts the next when it dies.

When to start again is a decision without I/O (`RestartPolicy`); the rest is the thin shell around it.
It does not know what a worker serves.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Protocol

import msgspec

from slipstream.core import clock
from slipstream.core.health import EndpointSnapshot
from slipstream.core.meters import Counters
from slipstream.core.use import UseRow
from slipstream.server.messages import Drain, FromWorker, Leaving, Ready, Refused, Status
from slipstream.server.process import WorkerProcess

_GRACE_SECONDS = 2.0  # what a worker gets on top of its drain before it is killed
_log = logging.getLogger(__name__)


class RestartPolicy(msgspec.Struct, frozen=True):
    """When a worker that died is started again: at once, then ever later while it keeps dying young."""

    first_seconds: float = 0.1
    longest_seconds: float = 10.0
    healthy_seconds: float = 30.0
    """A worker that ran so long was healthy; its death is a first one."""
    hopeless_deaths: int = 5
    """After so many, if none ever served, the owner is told."""

    def deaths(self, before: int, ran_seconds: float) -> int:
        """Deaths in a row, this one included."""
        return 1 if ran_seconds >= self.healthy_seconds else before + 1

    def delay_seconds(self, deaths: int, draw: float) -> float:
        """How long to wait before the next start; `draw` in [0, 1) spreads it over the upper half."""
        if deaths <= 1:
            return 0.0
        longest = min(self.longest_seconds, self.first_seconds * 2.0 ** min(deaths - 2, 60))
        return longest * (0.5 + 0.5 * draw)


class SlotState(Enum):
    """How a slot does; the value is what people are shown."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    WAITING = "waiting to restart"
    ENDED = "ended"


class Owner(Protocol):
    """What a slot asks of the one who owns it."""

    def greeting(self, slot: int) -> list[msgspec.Struct]:
        """What a new worker is told first."""
        ...

    def heard(self, slot: int, message: FromWorker) -> None:
        """A worker said something that concerns more than its slot."""
        ...


class Slot:
    """Keeps one worker running until it is told to drain.

    Args:
        index: the slot's number, from 0.
        start: starts a worker process; may raise `OSError`.
        owner: greets workers and hears what they say.
        counters: where `worker_restarts` is counted.
        policy: when to start again.
    """

    def __init__(
        self,
        index: int,
        start: Callable[[], Awaitable[WorkerProcess]],
        owner: Owner,
        counters: Counters,
        *,
        policy: RestartPolicy | None = None,
    ) -> None:
        self.index = index
        self.state = SlotState.STARTING
        self.restarts = 0
        self._start = start
        self._owner = owner
        self._counters = counters
        self._policy = policy or RestartPolicy()
        self._current: WorkerProcess | None = None
        self._alive: set[WorkerProcess] = set()  # the current one, and any that was asked by others to leave
        self._past: dict[str, int] = {}  # counts of workers that are gone
        self._has_served = False
        self._leaving = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id of the worker that serves, None while there is none."""
        return self._current.pid if self._current is not None else None

    @property
    def in_flight(self) -> int:
        """Requests under way when its workers last said so."""
        return sum(worker.in_flight for worker in self._alive)

    @property
    def endpoints(self) -> tuple[EndpointSnapshot, ...]:
        """What its worker said last of the upstreams' models."""
        return self._current.endpoints if self._current is not None else ()

    @property
    def use(self) -> tuple[UseRow, ...]:
        """What its worker said last of how its parts do."""
        return self._current.use if self._current is not None else ()

    def counts(self) -> dict[str, int]:
        """What its workers counted, those that died included (up to their last word)."""
        total = dict(self._past)
        for worker in self._alive:
            _add(total, worker.counters)
        return total

    @property
    def pids(self) -> set[int]:
        """Process ids of all its workers: the one that serves, and any that still drains."""
        return {worker.pid for worker in self._alive}

    def tell(self, message: msgspec.Struct) -> set[int]:
        """Pass a message on to its workers; the process ids of those that get it."""
        return {worker.pid for worker in list(self._alive) if worker.send(message)}

    def drain(self, seconds: float) -> None:
        """Start no more; let its worker finish what runs within `seconds`, then end it by force."""
        if self.state is SlotState.ENDED:
            return
        self._stopping.set()
        self.state = SlotState.DRAINING
        self.tell(Drain(seconds))
        asyncio.get_running_loop().call_later(seconds + _GRACE_SECONDS, self._kill_all)

    async def run(self) -> None:
        """Keep a worker running; return when it was told to drain and every process is gone."""
        deaths = 0
        async with asyncio.TaskGroup() as ends:
            while not self._stopping.is_set():
                started_ns = clock.monotonic_ns()
                if await self._run_one(ends) or self._stopping.is_set():
                    continue
                self.state = SlotState.WAITING
                self.restarts += 1
                self._counters.count("worker_restarts")
                deaths = self._policy.deaths(deaths, (clock.monotonic_ns() - started_ns) / 1e9)
                if deaths == self._policy.hopeless_deaths and not self._has_served:
                    self._owner.heard(self.index, _hopeless(deaths))
                await self._pause(self._policy.delay_seconds(deaths, random.random()))  # noqa: S311
        self.state = SlotState.ENDED

    async def _run_one(self, ends: asyncio.TaskGroup) -> bool:
        """Start a worker and stay with it. True: it lives, but serves nobody new; False: it is dead."""
        self.state = SlotState.STARTING
        self._leaving.clear()
        try:
            worker = await self._start()
        except OSError as error:
            _log.error("worker %d could not be started: %s", self.index, error)
            return False
        self._current = worker
        self._alive.add(worker)
        end = ends.create_task(self._see_off(worker))
        await worker.listen(lambda message: self._on_message(worker, message))
        for message in self._owner.greeting(self.index):
            worker.send(message)
        if self._stopping.is_set():
            worker.kill()
        leaving = ends.create_task(self._leaving.wait())
        await asyncio.wait((end, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        self._current = None
        return not end.done()

    async def _see_off(self, worker: WorkerProcess) -> None:
        status = await worker.ended()
        self._alive.discard(worker)
        _add(self._past, worker.counters)
        if not self._stopping.is_set() and worker is self._current:
            _log.warning("worker %d (pid %d) ended with status %d", self.index, worker.pid, status)

    def _on_message(self, worker: WorkerProcess, message: FromWorker) -> None:
        match message:
            case Status(in_flight, counters, endpoints, use):
                worker.in_flight = in_flight
                worker.counters = counters
                worker.endpoints = endpoints
                worker.use = use
            case Leaving():
                if worker is self._current:
                    self._leaving.set()
            case Ready() if not self._stopping.is_set():
                self.state = SlotState.READY
                self._has_served = True
                self._owner.heard(self.index, message)
            case _:
                self._owner.heard(self.index, message)

    async def _pause(self, seconds: float) -> None:
        if seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    def _kill_all(self) -> None:
        for worker in self._alive:
            worker.kill()


def _hopeless(deaths: int) -> Refused:
    return Refused(f"No worker could be started: {deaths} ended before they served.", "The log says why.")


def _add(total: dict[str, int], counts: dict[str, int]) -> None:
    for name, count in counts.items():
        total[name] = total.get(name, 0) + count
