"""Messages over a stream socket: whatever the splits, the same messages; bounded in both directions."""

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.waiting import until
from slipstream.core.errors import SlipstreamError
from slipstream.core.keys import KeyEntry
from slipstream.models.local_process import LocalAddress
from slipstream.server import messages
from slipstream.server.channel import FRAME_BYTES_MAX, OUTGOING_BYTES_MAX, Channel, FrameReader, frame


class End:
    """One end of a line and all that it has heard."""

    def __init__(self, incoming: object) -> None:
        self.heard: list[object] = []
        self.closed = asyncio.Event()
        self.channel = Channel[object](incoming, self.heard.append, self.closed.set)


@contextlib.asynccontextmanager
async def line(sock: socket.socket, incoming: object) -> AsyncIterator[End]:
    end = End(incoming)
    sock.setblocking(False)
    await asyncio.get_running_loop().create_unix_connection(lambda: end.channel, sock=sock)
    try:
        yield end
    finally:
        end.channel.close()
        await end.closed.wait()


@given(st.lists(st.binary(max_size=300), max_size=20), st.lists(st.integers(0, 4000), max_size=40))
def test_frames_survive_any_split(sent: list[bytes], cuts: list[int]) -> None:
    """Wherever the stream is cut, the same messages come out in the same order, and nothing is left over."""
    stream = b"".join(map(frame, sent))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()

    heard = [
        message for start, end in itertools.pairwise(edges) for message in reader.feed(stream[start:end])
    ]

    assert heard == sent
    assert reader.feed(frame(b"next")) == [b"next"]


@given(st.integers(FRAME_BYTES_MAX + 1, 2**32 - 1))
def test_frame_over_the_cap_is_refused_before_it_is_read(length: int) -> None:
    """A length over the cap means that the two ends are out of step: nothing is buffered for it."""
    reader = FrameReader()

    with pytest.raises(SlipstreamError, match="over the cap"):
        reader.feed(struct.pack(">I", length))


def test_longest_frame_passes() -> None:
    """A message of exactly the cap is a good one."""
    message = bytes(FRAME_BYTES_MAX)

    assert FrameReader().feed(frame(message)) == [message]


def test_every_message_arrives_as_it_was() -> None:
    """All that the two processes may say to each other comes through unchanged, in order."""
    entry = KeyEntry(id="key_1", digest=b"\xff" * 32, tenant="t", role="admin")
    to_worker = [
        messages.Keys(entries=(entry,), required=True),
        messages.Local(LocalAddress("ready", "http://127.0.0.1:1", "k", "")),
        messages.Begin(b'{"log":{}}', 3, "/run/control.sock", b"salt"),
        messages.Drain(600.0),
    ]
    from_worker = [
        messages.Ready(42),
        messages.Status(7, {"requests": 2**40}),
        messages.Leaving(),
        messages.Refused("what", "hint"),
    ]

    async def main() -> None:
        one, other = socket.socketpair()
        async with line(one, messages.FromWorker) as supervisor, line(other, messages.ToWorker) as worker:
            assert all(supervisor.channel.send(message) for message in to_worker)
            assert all(worker.channel.send(message) for message in from_worker)
            await until(lambda: len(worker.heard) == 4 and len(supervisor.heard) == 4)

            assert worker.heard == to_worker
            assert supervisor.heard == from_worker

    asyncio.run(main())


def test_what_finds_no_room_is_not_sent() -> None:
    """An end that does not read costs a bounded buffer: `send` says no, and what was sent still arrives."""

    async def main() -> None:
        one, other = socket.socketpair()
        with other:
            async with line(one, messages.FromWorker) as end:
                big = messages.Begin(bytes(1024 * 1024), 0, "", b"salt")
                taken = 0
                while end.channel.send(big):
                    taken += 1
                assert 0 <= end.channel.room_bytes < OUTGOING_BYTES_MAX / 8
                assert not end.channel.send(big)

                async with line(other.dup(), messages.ToWorker) as reader:
                    await end.channel.all_sent()
                    await until(lambda: len(reader.heard) == taken)
                    assert end.channel.room_bytes == OUTGOING_BYTES_MAX

    asyncio.run(main())


def test_closing_lets_what_was_sent_arrive() -> None:
    """Last words are heard: `close` comes after them on the line."""

    async def main() -> None:
        one, other = socket.socketpair()
        async with line(one, messages.FromWorker) as supervisor:
            async with line(other, messages.ToWorker) as worker:
                for number in range(1000):
                    worker.channel.send(messages.Status(number, {}))
            await supervisor.closed.wait()

            assert [message.in_flight for message in supervisor.heard] == list(range(1000))
            assert supervisor.channel.room_bytes == 0
            assert not supervisor.channel.send(messages.Leaving())

    asyncio.run(main())


@pytest.mark.parametrize("garbage", [b"\xff" * 8, frame(b"not msgpack"), frame(b"\x93\xa4Nope\x01\x02")])
def test_garbage_ends_the_line(garbage: bytes) -> None:
    """What is no message of ours is not guessed at: the line is cut, which both ends notice."""

    async def main() -> None:
        one, other = socket.socketpair()
        with other:
            async with line(one, messages.FromWorker) as end:
                other.sendall(garbage)
                async with asyncio.timeout(20):
                    await end.closed.wait()
                assert end.heard == []

    asyncio.run(main())
