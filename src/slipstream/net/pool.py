"""The connections to one upstream: the shell around `core.pool` that opens, closes and waits."""

import asyncio
from collections.abc import Callable
from functools import partial

from slipstream.core import clock
from slipstream.core.errors import Unavailable, UpstreamFailed, UpstreamTimeout
from slipstream.core.pool import Pool, PoolLimits, PoolSnapshot, Slot, Ticket, Why
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
        self._create: Callable[[], Connection] = partial(
            Connection, self._loop, header_bytes, self._finished, self._lost
        )
        self._live: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._emptied: Waiter | None = None
        self._warming: asyncio.Task[None] | None = None
        self.snapshot: Callable[[], PoolSnapshot] = self._core.snapshot
        self.take = self._core.take
