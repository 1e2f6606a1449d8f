"""A worker's records: in batches, bounded, none lost without being counted."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from server.waiting import until
from slipstream.config.settings import Recording
from slipstream.core import clock
from slipstream.core.meters import Counters
from slipstream.core.record import Record, Step
from slipstream.server import messages
from slipstream.server.channel import Channel
from slipstream.server.sink import PAUSE_NS, ChannelSink
from slipstream.store.rows import TEXT_MAX, from_row


class Supervisor:
    """The other end: reads the line when told to and keeps the records."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.batches: list[list[Record]] = []
        self.closed = asyncio.Event()

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in batch]

    async def listen(self) -> None:
        await asyncio.get_running_loop().create_unix_connection(
            lambda: Channel(messages.FromWorker, self._hear, self.closed.set), sock=self._sock
        )

    def _hear(self, message: messages.FromWorker) -> None:
        assert isinstance(message, messages.Records)
        self.batches.append([from_row(row) for row in message.rows])


@contextlib.asynccontextmanager
async def sink(settings: Recording, counters: Counters) -> AsyncIterator[tuple[ChannelSink, Supervisor]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    closed = asyncio.Event()
    channel = Channel(messages.ToWorker, print, closed.set)
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
    supervisor = Supervisor(theirs)
    with theirs:
        yield ChannelSink(channel, settings, counters), supervisor
        channel.close()
        await closed.wait()


def record(number: int) -> Record:
    return Record(id=f"req_{number}", steps=[Step("admit", 0, 10)])


LONG = ("route", "key_id", "tenant", "model_asked", "model", "upstream", "error_type", "error_code")


def long_record(number: int) -> Record:
    """One of 2 KB and more."""
    return Record(id=f"req_{number}", steps=[Step("admit", 0, 10)], **dict.fromkeys(LONG, "x" * TEXT_MAX))


def test_a_record_goes_out_within_the_flush_time() -> None:
    """A lone record is sent by the timer, whole."""

    async def main() -> None:
        async with sink(Recording(flush_ms=5), Counters()) as (ours, supervisor):
            await supervisor.listen()
            ours.take(record(1))
            await until(lambda: supervisor.records)
            assert supervisor.records == [record(1)]

    asyncio.run(main())


def test_a_full_batch_does_not_wait() -> None:
    """`batch` records go at once, in order, without waiting for the timer."""

    async def main() -> None:
        async with sink(Recording(flush_ms=3_600_000, batch=10), Counters()) as (ours, supervisor):
            await supervisor.listen()
            for number in range(25):
                ours.take(record(number))
            await until(lambda: len(supervisor.records) >= 20)
            await ours.close(5.0)
            await until(lambda: len(supervisor.records) == 25)

            assert supervisor.records == [record(number) for number in range(25)]
            assert max(map(len, supervisor.batches)) == 10

    asyncio.run(main())


def test_what_finds_no_room_is_counted() -> None:
    """While the supervisor does not read, buffers fill to their bounds; every record beyond is counted."""

    async def main() -> None:
        counters = Counters()
        settings = Recording(queue=100, batch=50, flush_ms=1)
        async with sink(settings, counters) as (ours, supervisor):
            for number in range(12_000):
                ours.take(long_record(number))
                if number % 20 == 0:
                    await asyncio.sleep(0)
            dropped = counters.snapshot()["records_dropped"]
            assert dropped > 0

            await supervisor.listen()
            await ours.close(20.0)
            await until(lambda: len(supervisor.records) == 12_000 - dropped)

            assert counters.snapshot()["records_dropped"] == dropped
            assert len({each.id for each in supervisor.records}) == 12_000 - dropped

    asyncio.run(main())


def test_closing_before_a_deaf_supervisor_ends_and_counts() -> None:
    """`close` is bounded in time, and what it could not send is counted as dropped."""

    async def main() -> None:
        counters = Counters()
        async with sink(Recording(flush_ms=3_600_000, queue=20_000, batch=1_000), counters) as (
            ours,
            supervisor,
        ):
            for number in range(15_000):
                ours.take(long_record(number))
            await ours.close(0.05)
            dropped = counters.snapshot()["records_dropped"]
            assert 0 < dropped < 15_000

            ours.take(record(15_001))
            assert counters.snapshot()["records_dropped"] == dropped + 1
            await supervisor.listen()
            await until(lambda: len(supervisor.records) == 15_000 - dropped)

    asyncio.run(main())


def test_what_comes_from_outside_is_cut() -> None:
    """A text beyond any column's length, or not Unicode, and a number beyond 64 bits: none breaks a batch."""

    async def main() -> None:
        counters = Counters()
        async with sink(Recording(flush_ms=5), counters) as (ours, supervisor):
            await supervisor.listen()
            ours.take(Record(id="req_a", output_tokens=2**70, model_asked="x" * 10_000_000))
            ours.take(Record(id="req_b", model_asked="\ud800"))
            ours.take(record(1))
            await until(lambda: len(supervisor.records) == 3)

            first, second, third = supervisor.records
            assert (first.output_tokens, first.model_asked) == (2**63 - 1, "x" * TEXT_MAX)
            assert second.model_asked == "?"
            assert third == record(1)
            assert counters.snapshot()["records_dropped"] == 0

    asyncio.run(main())


def test_a_record_that_cannot_be_stored_is_counted() -> None:
    """A field of a wrong kind costs its own record only."""

    async def main() -> None:
        counters = Counters()
        async with sink(Recording(flush_ms=5), counters) as (ours, supervisor):
            await supervisor.listen()
            broken = Record(id="req_a")
            broken.model = 5  # type: ignore[assignment]
            ours.take(broken)
            ours.take(record(1))
            await until(lambda: supervisor.records)

            assert supervisor.records == [record(1)]
            assert counters.snapshot()["records_dropped"] == 1

    asyncio.run(main())


def test_a_batch_shares_what_the_loop_has_spent() -> None:
    """Records are told the loop's CPU since the batch before, shared evenly; after a pause they are not."""
    now = cpu = 5_000_000_000

    async def main() -> None:
        nonlocal now, cpu
        async with sink(Recording(flush_ms=3_600_000, batch=4), Counters()) as (ours, supervisor):
            await supervisor.listen()
            for spent, passed in ((9_000, 0), (400_000, 10_000_000), (800_000, PAUSE_NS), (40, 1)):
                now, cpu = now + passed, cpu + spent
                for number in range(4):
                    ours.take(record(number))
                await until(lambda: len(supervisor.batches) > len(shares))
                shares.append([each.gateway_cpu_ns for each in supervisor.batches[-1]])

    shares: list[list[int | None]] = []
    with clock.driven_by(lambda: now), pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "thread_cpu_ns", lambda: cpu)
        asyncio.run(main())
    assert shares == [[None] * 4, [100_000] * 4, [None] * 4, [10] * 4]


def test_a_real_batch_costs_something() -> None:
    """With the system's clock: what was computed between two batches is in the second one's shares."""

    async def main() -> list[int | None]:
        async with sink(Recording(flush_ms=3_600_000, batch=2), Counters()) as (ours, supervisor):
            await supervisor.listen()
            for batch in (1, 2):
                sum(range(100_000))
                for number in range(2):
                    ours.take(record(number))
                await until(lambda batch=batch: len(supervisor.batches) == batch)
            return [each.gateway_cpu_ns for each in supervisor.batches[-1]]

    shares = asyncio.run(main())
    assert shares == [None, None] or all(share is not None and share > 0 for share in shares)
