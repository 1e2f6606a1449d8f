"""Where a worker's closed records go: over the channel to the supervisor, in batches, never waiting."""

import asyncio
import itertools
import logging
from collections import deque

from slipstream.config.settings import Recording
from slipstream.core import clock
from slipstream.core.errors import StoreFailed
from slipstream.core.meters import Counters
from slipstream.core.record import Record
from slipstream.core.use import UseRow, queue_row
from slipstream.server.channel import Channel
from slipstream.server.messages import Records, ToWorker
from slipstream.store.rows import Row, to_row

BATCH_RECORDS = 32
"""A batch is sent once it holds so many: working on some hundred at once would hold up requests by 1 ms."""
_ROW_BYTES = 32 * 1024
"""No row is longer: its text is cut, its steps are counted."""
PAUSE_NS = 1_000_000_000
"""A batch so long after the last one is not told its CPU: what the loop did meanwhile was not for it."""
_log = logging.getLogger(__name__)


class ChannelSink:
    """A `RecordSink` for one event loop. What finds no room is dropped and counted as `records_dropped`.

    A record becomes a row with its batch, after its request has been answered.
    """

    def __init__(self, channel: Channel[ToWorker], settings: Recording, counters: Counters) -> None:
        self._channel = channel
        self._counters = counters
        self._room = settings.queue
        self._batch = min(settings.batch, BATCH_RECORDS)
        self._flush_seconds = settings.flush_ms / 1000
        self._waiting: deque[Record] = deque()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._at_once = False
        self._closed = False
        self._uncharged = 0  # of those that wait, the last so many are not told yet what they cost
        self._charged_ns = 0
        self._charged_cpu_ns = 0

    def take(self, record: Record) -> None:
        """Keep a closed record for the next batch."""
        if self._closed or len(self._waiting) >= self._room:
            self._counters.count("records_dropped")
            return
        self._waiting.append(record)
        self._uncharged += 1
        if self._timer is None:
            self._timer = self._loop.call_later(self._flush_seconds, self._on_timer)
        if len(self._waiting) == self._batch and not self._at_once:
            self._at_once = True
            self._loop.call_soon(self._on_full)

    def use(self) -> UseRow:
        """How full the queue is."""
        return queue_row(
            "record queue",
            len(self._waiting),
            self._room,
            "records",
            errors=self._counters.snapshot()["records_dropped"],
        )

    async def close(self, seconds: float) -> None:
        """Send all that waits, for at most `seconds`; what is left then is dropped. Takes nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            async with asyncio.timeout(seconds):
                while self._waiting and self._channel.room_bytes:
                    self._send_all()
                    await self._channel.all_sent()
        except TimeoutError:
            pass
        if self._waiting:
            self._counters.count("records_dropped", len(self._waiting))
            self._waiting.clear()

    def _on_timer(self) -> None:
        self._timer = None
        self._send_all()
        if self._waiting:  # no room: the supervisor is behind; the queue's bound decides what is lost
            self._timer = self._loop.call_later(self._flush_seconds, self._on_timer)

    def _on_full(self) -> None:
        self._at_once = False
        self._send_all()

    def _send_all(self) -> None:
        self._charge()
        while self._waiting and self._channel.room_bytes >= self._batch * _ROW_BYTES:
            self._channel.send(Records(self._next_batch()))

    def _charge(self) -> None:
        """Share the loop's CPU since the last time among the records that came since; 0.7 us a batch."""
        count, self._uncharged = self._uncharged, 0
        if not count:
            return
        now_ns, cpu_ns = clock.monotonic_ns(), clock.thread_cpu_ns()
        if now_ns - self._charged_ns < PAUSE_NS:
            share_ns = (cpu_ns - self._charged_cpu_ns) // count
            for record in itertools.islice(reversed(self._waiting), count):
                record.gateway_cpu_ns = share_ns
        self._charged_ns, self._charged_cpu_ns = now_ns, cpu_ns

    def _next_batch(self) -> list[Row]:
        rows = []
        for _ in range(min(self._batch, len(self._waiting))):
            try:
                rows.append(to_row(self._waiting.popleft()))
            except StoreFailed as error:
                self._counters.count("records_dropped")
                _log.error("a record is lost: %s", error)
        return rows


class NoSink:
    """Forgets records, where recording is switched off."""

    def take(self, record: Record) -> None:
        """Forget it."""

    async def close(self, seconds: float) -> None:
        """Nothing waits."""
