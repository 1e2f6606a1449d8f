"""A flight: one request to a model, run by a task of its own and read by one reader or several.

The task belongs to the flight, not to a client. It ends by itself, or is cancelled when the last reader
has left. What has arrived and is not read yet is kept up to a bound; then the model is made to wait,
or, where others keep pace, the reader that holds it up is dropped.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator

from slipstream.core.chat import ChatRequest
from slipstream.core.errors import SlipstreamError, Unavailable, UpstreamFailed, UpstreamTimeout
from slipstream.core.meters import Counters
from slipstream.core.ports import Chunk, Head
from slipstream.core.record import Record
from slipstream.flow.attempt import Attempts, Opened, Patience
from slipstream.flow.observe import Observer
from slipstream.flow.watch import Watch, Watches

log = logging.getLogger(__name__)

EVENT_BYTES = 64
"""What keeping an event costs beside its bytes."""

LAST_WORD_SECONDS = 1.0
"""How long the body may go on after a stream's last word: its end makes the connection of use again."""


class Reader:
    """One reader of a flight: the head first, then the chunks from the beginning of the log."""

    __slots__ = ("_flight", "_waiter", "dropped", "position")

    def __init__(self, flight: "Flight") -> None:
        self._flight = flight
        self._waiter: asyncio.Future[None] | None = None
        self.position = 0
        self.dropped = False

    async def head(self) -> Head:
        """Status and headers, once a first byte of the body is here. Raises what the attempts raised."""
        flight = self._flight
        while flight.head is None:
            if flight.error is not None:
                raise flight.error
            await self._wait()
        return flight.head

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        flight = self._flight
        while True:
            if self.dropped:
                raise Unavailable("This reader fell too far behind.", code="slow_reader")
            chunk = flight.next_for(self)
            if chunk is not None:
                return chunk
            if flight.over:
                if flight.error is not None:
                    raise flight.error
                raise StopAsyncIteration
            await self._wait()

    def leave(self) -> None:
        """Stop reading; the last one to leave ends the flight. May be called twice."""
        self._flight.part(self)

    def wake(self) -> None:
        """Something has changed in the flight."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._flight.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Flight:
    """The log of one answer while it arrives, and the task that fills it."""

    def __init__(self, request: ChatRequest, record: Record, crew: "Flights") -> None:
        self.head: Head | None = None
        self.error: SlipstreamError | None = None
        self.over = False
        self._request = request
        self._record = record
        self._observer = Observer(request, record)
        self._crew = crew
        self._log: deque[Chunk] = deque()
        self._base = 0
        self._bytes = 0
        self._readers: list[Reader] = []
        self._room: asyncio.Future[None] | None = None
        self.loop = loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._fly(), name=record.id)  # so that a profile knows whose it is
        self._watch = Watch(crew.watches(loop), self._task)

    def board(self) -> Reader:
        """A new reader, who reads from the beginning. Only while nothing was let go of."""
        assert self._base == 0
        reader = Reader(self)
        self._readers.append(reader)
        return reader

    def part(self, reader: Reader) -> None:
        """A reader leaves."""
        if reader in self._readers:
            self._readers.remove(reader)
            if not self._readers and not self.over:
                self._observer.settle()  # now: the record is closed before the task has unwound
                self._task.cancel()
            elif self._room is not None:
                self._let_go()

    def next_for(self, reader: Reader) -> Chunk | None:
        """The chunk that `reader` has not seen yet, None if there is none for now."""
        index = reader.position - self._base
        if index >= len(self._log):
            return None
        chunk = self._log[index]
        reader.position += 1
        if self._bytes > self._crew.backlog_bytes or self._room is not None:
            self._let_go()
        return chunk

    async def _fly(self) -> None:
        record = self._record
        try:
            opened = await self._crew.attempts.open(self._request, record, self._watch)
            try:
                with record.step("relay"):
                    await self._pump(opened, self._observer)
            finally:
                await opened.reply.aclose()
        except SlipstreamError as error:
            self._observer.settle()
            self.error = error
        except Exception:  # the last guard of this task: whoever waits must hear of it
            log.exception("unexpected error in a flight", extra={"request_id": record.id})
            self._crew.counters.count("unexpected_errors")
            self.error = SlipstreamError(
                "Something unexpected went wrong.", hint=f"See the log for {record.id}."
            )
        finally:
            self._watch.stop()
            self.over = True
            self._wake()

    async def _pump(self, opened: Opened, observer: Observer) -> None:
        observer.begin(opened.head)
        patience = self._crew.patience
        chunk = opened.first
        if chunk is None:
            self.head = opened.head
        deadline = self.loop.time() + patience.total_seconds - self._record.since_arrival() / 1e9
        try:
            while chunk is not None:
                passed = observer.see(chunk)
                if passed is not None:
                    await self._append(passed)
                self.head = opened.head
                self._wake()
                idle = LAST_WORD_SECONDS if observer.is_over else patience.idle_seconds
                left = min(idle, deadline - self.loop.time())
                self._watch.expect(left)
                chunk = await anext(opened.body, None)
        except asyncio.CancelledError:
            if not self._watch.overdue():
                raise
            if not observer.is_over:
                raise UpstreamTimeout(
                    f"The model `{self._record.model}` fell silent for {patience.idle_seconds:g} s.",
                    hint="The settings models.idle_seconds and models.total_seconds bound this.",
                ) from None
        except UpstreamFailed:
            if not observer.is_over:  # a connection that breaks after the last word breaks no answer
                raise
        added = observer.end()
        if added:
            await self._append(Chunk((added,), opened.first.arrived_ns if opened.first else 0))

    async def _append(self, chunk: Chunk) -> None:
        self._log.append(chunk)
        self._bytes += _size(chunk)
        while self._bytes > self._crew.backlog_bytes and self._behind():
            self._drop_slow()
            if not self._behind():
                break
            self._wake()
            self._room = self.loop.create_future()
            # the reader is slow, not the model: its own connection has a timeout for that
            self._watch.expect(self._crew.patience.total_seconds)
            try:
                await self._room
            finally:
                self._room = None

    def _behind(self) -> bool:
        """Whether what is kept over the bound is still wanted by somebody; what is not, is let go of."""
        self._let_go()
        return self._bytes > self._crew.backlog_bytes and len(self._log) > 1

    def _drop_slow(self) -> None:
        """With several readers the ones that hold the log are dropped, if any other has kept pace."""
        front = self._base + len(self._log)
        if all(front - reader.position > len(self._log) // 2 for reader in self._readers):
            return
        for reader in [r for r in self._readers if r.position == self._base]:
            reader.dropped = True
            reader.wake()
            self._readers.remove(reader)
            self._crew.counters.count("readers_dropped")

    def _let_go(self) -> None:
        """Drop from the log what every reader has read, once it is over its bound."""
        read = min((reader.position for reader in self._readers), default=self._base)
        while self._log and self._base < read and self._bytes > self._crew.backlog_bytes // 2:
            self._bytes -= _size(self._log.popleft())
            self._base += 1
        if self._room is not None and not self._room.done() and self._bytes <= self._crew.backlog_bytes:
            self._room.set_result(None)

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()


class Flights:
    """Starts flights; later the place where equal requests board the same one."""

    def __init__(
        self, attempts: Attempts, patience: Patience, counters: Counters, *, backlog_bytes: int
    ) -> None:
        self.attempts = attempts
        self.patience = patience
        self.counters = counters
        self.backlog_bytes = backlog_bytes
        self._watches: Watches | None = None

    def watches(self, loop: asyncio.AbstractEventLoop) -> Watches:
        """The watches of the flights on `loop`."""
        watches = self._watches
        if watches is None or watches.loop is not loop:
            watches = self._watches = Watches(loop)
        return watches

    def board(self, request: ChatRequest, record: Record) -> Reader:
        """A reader of the flight that answers `request`."""
        return Flight(request, record, self).board()


def _size(chunk: Chunk) -> int:
    events = chunk.events
    return sum(map(len, events)) + EVENT_BYTES * len(events)
