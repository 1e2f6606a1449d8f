"""Delivers what waits: one message after the other to each receiver, tried again until it is too old.

Order is kept for each receiver, so that nobody hears of an end before its beginning. It lives in memory
and tells of every change; whoever stores those can go on after a restart. A message whose delivery was
under way at a kill is sent again: receivers tell them apart by their ids.
"""

import asyncio
import functools
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping

from slipstream.core import clock
from slipstream.core.errors import SlipstreamError
from slipstream.core.outbox import Message, delivered, failed, is_due
from slipstream.core.use import UseRow, queue_row
from slipstream.monitoring.meter import Meter

Send = Callable[[Message], Awaitable[None]]
"""One try; raises a `SlipstreamError`, whose `is_final`, where it has one, says that none other can help."""

POLL_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Outbox:
    """What waits to be delivered.

    Args:
        senders: by the kind of message.
        on_change: told of every message that is new or has changed.
        meter: counts `alerts_delivered` and `alerts_dead`.
        limit: most messages that wait; beyond it new ones are dead at once.
        keep_seconds: for how long a message is tried.
    """

    def __init__(
        self,
        senders: Mapping[str, Send],
        on_change: Callable[[Message], None],
        meter: Meter,
        *,
        limit: int,
        keep_seconds: float,
    ) -> None:
        self._senders = senders
        self._on_change = on_change
        self._meter = meter
        self._limit = limit
        self._keep_ns = int(keep_seconds * 1e9)
        self._lanes: dict[str, list[Message]] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._dead = 0

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return sum(map(len, self._lanes.values()))

    def use(self) -> UseRow:
        """How full it is, and how many messages were given up."""
        return queue_row("alerts outbox", self.waiting, self._limit, "messages", errors=self._dead)

    def restore(self, messages: Iterable[Message]) -> None:
        """Take up what waited before a restart."""
        for message in sorted(messages, key=lambda each: each.created_wall_ns):
            self._lanes.setdefault(message.receiver, []).append(message)

    def put(self, message: Message) -> None:
        """Deliver a message as soon as its turn comes; without room it is dead at once."""
        if self.waiting >= self._limit:
            self._settle(_dead(message, f"More than {self._limit} messages wait already."))
            return
        self._lanes.setdefault(message.receiver, []).append(message)
        self._on_change(message)
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; what is under way then is tried again after the next start."""
        try:
            while True:
                self._begin()
                self._wake.clear()
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._under_way.values():
                task.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _begin(self) -> None:
        now = clock.wall_ns()
        for receiver, lane in list(self._lanes.items()):
            if not lane:
                del self._lanes[receiver]
            elif receiver not in self._under_way and is_due(lane[0], now):
                task = asyncio.get_running_loop().create_task(self._deliver(lane[0]), name=f"tell {receiver}")
                self._under_way[receiver] = task
                task.add_done_callback(functools.partial(self._left, receiver))

    def _left(self, receiver: str, task: asyncio.Task[None]) -> None:
        del self._under_way[receiver]
        if (
            not task.cancelled() and (mistake := task.exception()) is not None
        ):  # of ours: it would be made again
            _log.error("delivery to %s failed", receiver, exc_info=mistake)
            self._settle(_dead(self._lanes[receiver].pop(0), repr(mistake)))
        self._wake.set()

    async def _deliver(self, message: Message) -> None:
        lane = self._lanes[message.receiver]
        try:
            sender = self._senders.get(message.kind)
            if sender is None:
                after = _dead(message, f"Nobody here delivers messages of kind {message.kind!r}.")
            else:
                await sender(message)
                after = delivered(message)
        except SlipstreamError as error:
            after = failed(
                message,
                str(error),
                clock.wall_ns(),
                is_final=bool(getattr(error, "is_final", False)),
                keep_ns=self._keep_ns,
                chance=random.random(),  # noqa: S311 (spreads load)
                left=getattr(error, "left", ()),
            )
            _log.warning("%s was not told (try %d): %s", message.receiver, after.tries, error)
        if after.state == "waiting":
            lane[0] = after
        else:
            lane.pop(0)
        self._settle(after)

    def _settle(self, message: Message) -> None:
        if message.state == "sent":
            self._meter.count("alerts_delivered", message.receiver)
        elif message.state == "dead":
            self._dead += 1
            self._meter.count("alerts_dead", message.receiver)
            _log.error("given up on telling %s: %s", message.receiver, message.error)
        self._on_change(message)


def _dead(message: Message, error: str) -> Message:
    return failed(message, error, clock.wall_ns(), is_final=True, keep_ns=0, chance=0.0)
