"""Where a worker's closed records go: over the channel to the supervisor, in batches, never waiting."""

import asyncio
import itertools
import logging
from collections import deque

import msgspec

from slipstream.config.settings import Recording
from slipstream.core import clock
from slipstream.core.meters import Counters
from slipstream.core.record import Record
from slipstream.server.channel import Channel
from slipstream.server.messages import Records, ToWorker

RECORD_BYTES_MAX = 1024 * 1024
"""A record that is longer, encoded, is dropped."""
BATCH_BYTES = 256 * 1024
"""A batch is sent once it holds this much."""
BATCH_RECORDS = 32
"""And once it holds so many: encoding some hundred at once would hold up the requests under way by 1 ms."""
PAUSE_NS = 1_000_000_000
"""A batch so long after the last one is not told its CPU: what the loop did meanwhile was not for it."""
_ROOM_BYTES = RECORD_BYTES_MAX + 2 * BATCH_BYTES  # what one batch takes at the very most
_ENCODER = msgspec.msgpack.Encoder()
_log = logging.getLogger(__name__)


class ChannelSink:
    """A `RecordSink` for one event loop. What finds no room is dropped and counted as `records_dropped`.

    A record is encoded with its batch, after its request has been answered.
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
        while self._waiting and self._channel.room_bytes >= _ROOM_BYTES:
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

    def _next_batch(self) -> tuple[msgspec.Raw, ...]:
        items: list[msgspec.Raw] = []
        size = 0
        while self._waiting and size < BATCH_BYTES and len(items) < self._batch:
            encoded = _encoded(self._waiting.popleft())
            if not 0 < len(encoded) <= RECORD_BYTES_MAX:
                self._counters.count("records_dropped")
                continue
            items.append(msgspec.Raw(encoded))
            size += len(encoded)
        return tuple(items)


def _encoded(record: Record) -> bytes:
    """The record as msgpack; empty where a foreign number or text in it cannot be encoded at all."""
    try:
        return _ENCODER.encode(record)
    except (OverflowError, UnicodeEncodeError) as error:
        _log.error("record %s cannot be sent: %s", record.id, error)
        return b""


class NoSink:
    """Forgets records, where recording is switched off."""

    def take(self, record: Record) -> None:
        """Forget it."""

    async def close(self, seconds: float) -> None:
        """Nothing waits."""
