"""Places in front of an upstream in a replay: the pool's core of the real client, without connections."""

import asyncio

from slipstream.core import clock
from slipstream.core.errors import Unavailable, UpstreamTimeout
from slipstream.core.pool import Pool, PoolLimits, Slot
from slipstream.core.record import QUEUE, Record

Place = Slot[object]


class Places:
    """As many places as `limits` allow, given in turn; the wait for one is a step `queue` of the record."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._pool: Pool[object, asyncio.Future[None]] = Pool(limits)

    async def enter(self, record: Record) -> Place:
        """A place, to be given back with `leave`. Raises as the real client does."""
        now_ns = clock.monotonic_ns()
        place = self._pool.take(now_ns)
        if place is None:
            with record.step(QUEUE):
                place = await self._wait(now_ns)
        if place.state == "opening":
            place.take_retired()
            self._pool.opened(place, object(), clock.monotonic_ns())
        return place

    def leave(self, place: Place) -> None:
        """Give a place back; whoever waits longest has it."""
        ticket = self._pool.release(place, clock.monotonic_ns())
        if ticket is not None and not ticket.waiter.done():
            ticket.waiter.set_result(None)

    async def _wait(self, now_ns: int) -> Place:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = self._pool.enqueue(waiter, now_ns)
        if ticket is None:
            raise Unavailable("All places are taken, and as many wait as may.", code="pool_exhausted")
        place: Place | None = None
        try:
            async with asyncio.timeout(self._limits.wait_ns / 1e9):
                await waiter
            place, ticket.slot = ticket.slot, None
        except TimeoutError:
            raise UpstreamTimeout("No place came free in time.", code="pool_timeout") from None
        finally:
            left = self._pool.abandon(ticket)
            if left is not None:  # it came in the moment this was given up: to the next one
                self.leave(left)
        assert place is not None
        return place
