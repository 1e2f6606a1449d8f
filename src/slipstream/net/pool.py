"""The connections to one upstream: the shell around `core.pool` that opens, closes and waits."""

import asyncio
import contextlib
from functools import partial

from slipstream.core import clock
from slipstream.core.errors import Unavailable, UpstreamFailed, UpstreamTimeout
from slipstream.core.pool import Pool, PoolLimits, Slot, Ticket, Why
from slipstream.net.http1 import Connection
from slipstream.net.origin import Origin

Place = Slot[Connection]
Waiter = asyncio.Future[None]


class Connections:
    """Connections to one origin on one running loop.

    No task belongs to a connection or to a waiter; one timer serves them all. Whoever holds a place
    either uses its connection, which then finds its way back by itself, or calls `give_up`.
    """

    def __init__(self, origin: Origin, limits: PoolLimits, header_bytes: int) -> None:
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._core: Pool[Connection, Waiter] = Pool(limits)
        self._create = partial(Connection, self._loop, header_bytes, self._finished, self._lost)
        self._live: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._emptied: Waiter | None = None
        self._warming: asyncio.Task[None] | None = None
        self.take = self._core.take
        self.snapshot = self._core.snapshot

    async def wait(self, now_ns: int) -> Place:
        """A place, in turn. Raises `Unavailable` when too many wait, `UpstreamTimeout` after too long."""
        if self._core.is_shut:
            raise closed()
        ticket = self._core.enqueue(waiter := self._loop.create_future(), now_ns)
        if ticket is None:
            raise self._exhausted()
        self._arm(now_ns)
        try:
            await waiter
            slot, ticket.slot = ticket.slot, None
        finally:
            granted = self._core.abandon(ticket)
            if granted is not None:  # it came in the moment this was cancelled: to the next one
                self._return(granted)
        if slot is None:
            raise closed() if self._core.is_shut else self._late()
        return slot

    async def fill(self, slot: Place) -> None:
        """Open a connection for an opening place. The place is given up if that fails."""
        _close_retired(slot)
        connection = None
        try:
            connection = await self._origin.connect(self._create)
        finally:
            if connection is None:
                self.give_up(slot, "unopened")
        if self._core.is_shut:
            connection.abort()
            self.give_up(slot, "shut")
            raise closed()
        connection.slot = slot
        if connection.transport is not None:
            self._live.add(connection)
        self._core.opened(slot, connection, clock.monotonic_ns())

    def give_up(self, slot: Place, why: Why) -> None:
        """A place is not needed any more."""
        ticket = self._core.discard(slot, why, clock.monotonic_ns())
        _close_retired(slot)
        if ticket is not None:
            _wake(ticket)
        if why != "unopened":  # else every failing request would make others try in vain
            self._rewarm()

    async def warm(self) -> None:
        """Open what is missing to the minimum; an upstream that is down is no error yet."""
        await asyncio.gather(*(self._warm_one() for _ in range(self._core.limits.minimum)))

    async def close(self) -> None:
        """Close every connection, turn every waiter away; returns when all are gone."""
        gone, left = self._core.shut()
        for slot in gone:
            _close_retired(slot)
        for ticket in left:
            _wake(ticket)
        if self._timer is not None:
            self._timer.cancel()
        warming = self._warming
        if warming is not None:
            warming.cancel()
        for connection in self._live:
            connection.abort()
        if warming is not None:
            await asyncio.wait({warming})
        while self._live:
            self._emptied = self._loop.create_future()
            await self._emptied

    # The connections' side.

    def _finished(self, connection: Connection, why: Why | None) -> None:
        slot = connection.slot
        if slot is None:
            return
        if why is None:
            ticket = self._core.release(slot, connection.arrived_ns)
            if ticket is not None or slot.retired is not None or self._timer is None:
                self._released(slot, ticket)
        elif why == "lost":
            self._core.vacate(slot, clock.monotonic_ns())
            connection.slot = slot.retired = None
        else:
            self.give_up(slot, why)

    def _lost(self, connection: Connection) -> None:
        slot = connection.slot
        if slot is not None and slot.state == "idle":
            self.give_up(slot, "lost")
        if connection.transport is None:
            self._live.discard(connection)
            if not self._live and self._emptied is not None and not self._emptied.done():
                self._emptied.set_result(None)

    def _return(self, slot: Place) -> None:
        """A place that was not used after all."""
        if slot.state == "opening":
            self.give_up(slot, "unopened")
        else:
            self._released(slot, self._core.release(slot, clock.monotonic_ns()))

    def _released(self, slot: Place, ticket: Ticket[Connection, Waiter] | None) -> None:
        _close_retired(slot)
        if ticket is not None:
            _wake(ticket)
        elif self._timer is None:
            self._arm(clock.monotonic_ns())

    # Time.

    def _arm(self, now_ns: int) -> None:
        """See to it that `_sweep` runs when something is due; at most one timer."""
        due_ns = self._core.due_ns()
        if due_ns is None or (self._timer is not None and self._timer_ns <= due_ns):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = due_ns
        delay = max(0, due_ns - now_ns) / 1e9 + 0.001  # the loop's clock is coarser than ours
        self._timer = self._loop.call_later(delay, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now_ns = clock.monotonic_ns()
        gone, late = self._core.sweep(now_ns)
        for slot in gone:
            _close_retired(slot)
        for ticket in late:
            _wake(ticket)
        self._rewarm()
        self._arm(now_ns)

    def _rewarm(self) -> None:
        if self._core.is_cold and self._warming is None:
            self._warming = self._loop.create_task(self.warm())
            self._warming.add_done_callback(self._warmed)

    def _warmed(self, task: "asyncio.Task[None]") -> None:
        self._warming = None

    async def _warm_one(self) -> None:
        slot = self._core.warm(clock.monotonic_ns())
        if slot is None:
            return
        with contextlib.suppress(UpstreamFailed, Unavailable):
            await self.fill(slot)
            self._return(slot)

    # Refusals.

    def _exhausted(self) -> Unavailable:
        limits = self._core.limits
        return Unavailable(
            f"All {limits.size} connections to {self._origin} are in use and {limits.waiting} requests wait.",
            hint="Raise `connections` or `waiting` of this upstream, or lower the load.",
            code="pool_exhausted",
            retry_after_seconds=1.0,
        )

    def _late(self) -> UpstreamTimeout:
        limits = self._core.limits
        return UpstreamTimeout(
            f"None of {limits.size} connections to {self._origin} came free in {limits.wait_ns / 1e9:g} s.",
            hint="Raise `connections` or `wait_seconds` of this upstream.",
            code="pool_timeout",
        )


def closed() -> Unavailable:
    """What a request on a closed client is told."""
    return Unavailable("The connections to this upstream are shut.", code="client_closed")


def _wake(ticket: Ticket[Connection, Waiter]) -> None:
    if not ticket.waiter.done():  # else cancelled: its own `finally` sees to the slot
        ticket.waiter.set_result(None)


def _close_retired(slot: Place) -> None:
    connection = slot.take_retired()
    if connection is not None:
        connection.slot = None
        connection.abort()
