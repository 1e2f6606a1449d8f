"""The fault proxy on real loopback connections: each fault shows its effect and no other."""

import asyncio
import gzip

import pytest
from chaos_rig import DONE, REQUEST, SSE_HEAD, dial, event, relayed, settle, stream, until

JSON = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"ok": true}\n'
EVENTS = [event(number) for number in range(5)]


def test_without_faults_every_byte_passes_both_ways():
    """A proxy without faults is a wire: same bytes, keep-alive, counts right."""

    async def body(server, chaos):
        client = await dial(chaos, REQUEST * 3)
        await client.got(JSON * 3)
        assert bytes(server.received) == REQUEST * 3
        counts = chaos.counts
        assert (counts.connections, counts.open, counts.responses) == (1, 1, 3)
        assert (counts.bytes_up, counts.bytes_down) == (len(REQUEST) * 3, len(JSON) * 3)
        client.transport.abort()

    relayed(JSON)(body)


def test_a_large_body_passes_whole_through_a_slow_reader():
    """Back-pressure reaches the server and loses nothing."""
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n" + b"x" * 40_000_000

    async def body(server, chaos):
        client = await dial(chaos)
        client.transport.pause_reading()
        await settle()
        # What neither the kernel nor the proxy's buffer takes is still in the server.
        assert next(iter(server.open)).get_write_buffer_size() > 0
        client.transport.resume_reading()
        await until(lambda: sum(map(len, client.reads)) == len(big))
        client.transport.abort()

    relayed(big)(body)


def test_that_it_speaks_no_http_does_not_matter():
    """Bytes that are no HTTP pass as they are, faults on HTTP set or not."""
    banner = b"220 mail.example ESMTP\r\n"

    async def body(_, chaos):
        client = await dial(chaos, b"EHLO\r\n\r\n{}")
        await client.got(banner)
        assert chaos.counts.hits == {}
        client.transport.abort()

    relayed(banner, "http_garbage", "sse_reset@0")(body)


@pytest.mark.parametrize(
    "fault", ["split:down,mean=1", "split:down,mean=7", "slicer:down,size=5,variation=3"]
)
def test_slicing_keeps_every_byte_and_cuts_the_reads_apart(fault):
    """Sliced, the stream arrives in many reads, and joined it is what the server sent."""

    async def body(_, chaos):
        client = await dial(chaos)
        await client.got(stream(3))
        assert len(client.reads) > len(stream(3)) / 20
        client.transport.abort()

    relayed(stream(3), fault)(body)


def test_slices_of_the_request_arrive_whole():
    """The same towards the server."""

    async def body(server, chaos):
        client = await dial(chaos)
        await client.got(JSON)
        assert bytes(server.received) == REQUEST
        client.transport.abort()

    relayed(JSON, "split:up,mean=1")(body)


def test_latency_delays_by_at_least_its_time():
    """Nothing arrives before `ms` have passed."""

    async def body(_, chaos):
        loop = asyncio.get_running_loop()
        start = loop.time()
        client = await dial(chaos)
        await client.got(JSON)
        assert loop.time() - start >= 0.099
        client.transport.abort()

    relayed(JSON, "latency:up,ms=50", "latency:down,ms=50")(body)


def test_bandwidth_delays_in_proportion():
    """A kilobyte at 10 kB/s takes at least 95 ms, and comes in portions."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 960\r\n\r\n" + b"y" * 960

    async def body(_, chaos):
        loop = asyncio.get_running_loop()
        start = loop.time()
        client = await dial(chaos)
        await client.got(answer)
        assert loop.time() - start >= 0.095
        assert len(client.reads) >= 2
        client.transport.abort()

    relayed(answer, "bandwidth:down,bytes_per_second=10000")(body)


def test_slow_close_delays_only_the_end():
    """The answer is there at once, its end later."""

    async def body(_, chaos):
        loop = asyncio.get_running_loop()
        client = await dial(chaos)
        await client.got(JSON)
        there = loop.time()
        assert await client.ended() == "eof"
        assert loop.time() - there >= 0.09

    relayed(JSON, "slow_close:down,ms=100", close_after=True)(body)


def test_timeout_zero_hangs_until_it_is_taken_away():
    """Nothing comes while the fault is set; everything comes when it goes."""

    async def body(_, chaos):
        client = await dial(chaos)
        await settle()
        assert client.data == b""
        assert client.end is None
        assert chaos.remove("timeout_down")
        await client.got(JSON)
        client.transport.abort()

    relayed(JSON, "timeout:down")(body)


def test_timeout_closes_after_its_time_without_a_byte():
    """The connection ends cleanly and nothing has passed."""

    async def body(_, chaos):
        client = await dial(chaos)
        assert await client.ended() == "eof"
        assert client.data == b""

    relayed(JSON, "timeout:down,ms=30")(body)


@pytest.mark.parametrize(
    ("fault", "data"),
    [
        ("reset_peer:down", b""),
        ("reset_peer:down,ms=20,bytes=20", JSON[:20]),
        ("reset_peer:down,bytes=20", JSON[:20]),
    ],
)
def test_reset_peer_is_seen_as_a_reset(fault, data):
    """The client gets the bytes it is allowed, then ECONNRESET; the server's connection is gone too."""

    async def body(server, chaos):
        client = await dial(chaos)
        assert await client.ended() == "rst"
        assert client.data == data
        await until(lambda: not server.open)

    relayed(JSON, fault)(body)


def test_limit_data_ends_cleanly_after_its_bytes():
    """Exactly so many bytes, then the end of the stream."""

    async def body(_, chaos):
        client = await dial(chaos)
        assert await client.ended() == "eof"
        assert client.data == JSON[:30]

    relayed(JSON, "limit_data:down,bytes=30")(body)


@pytest.mark.parametrize(("mode", "end"), [("reset", "rst"), ("close", "eof")])
def test_a_refused_connection_never_reaches_the_server(mode, end):
    """The client's connection ends at once; the server saw none."""

    async def body(server, chaos):
        client = await dial(chaos)
        assert await client.ended() == end
        assert bytes(server.received) == b""
        assert chaos.counts.hits == {"refuse": 1}

    relayed(JSON, f"refuse,mode={mode}")(body)


def test_stop_refuses_to_connect_and_listens_again_on_the_same_port():
    """ECONNREFUSED while the fault is set; the same port serves afterwards."""

    async def body(_, chaos):
        with pytest.raises(ConnectionRefusedError):
            await dial(chaos)
        port = chaos.port
        chaos.set([])
        assert chaos.port == port
        client = await dial(chaos)
        await client.got(JSON)
        client.transport.abort()

    relayed(JSON, "refuse,mode=stop")(body)


@pytest.mark.parametrize(
    ("fault", "end", "passed"),
    [
        ("sse_reset@0", "rst", []),
        ("sse_reset@3", "rst", EVENTS[:3]),
        ("sse_reset@done", "rst", EVENTS),
        ("sse_fin@2", "eof", EVENTS[:2]),
        ("sse_fin@done", "eof", EVENTS),
    ],
)
def test_a_stream_breaks_off_after_exactly_k_events(fault, end, passed):
    """k whole events arrive, then RST or FIN; the last chunk and `[DONE]` never come."""

    async def body(server, chaos):
        client = await dial(chaos)
        assert await client.ended() == end
        assert client.data.startswith(SSE_HEAD)
        assert client.body == b"".join(passed)
        assert not client.data.endswith(b"0\r\n\r\n")
        await until(lambda: not server.open)

    relayed(stream(5), fault)(body)


def test_a_stream_can_end_well_formed_without_done_and_the_connection_lives_on():
    """`sse_end` leaves valid HTTP: the next request on the connection is answered."""
    ended = SSE_HEAD + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in EVENTS[:2]) + b"0\r\n\r\n"

    async def body(_, chaos):
        client = await dial(chaos)
        await client.got(ended)
        client.transport.write(REQUEST)
        await client.got(ended + stream(5))
        client.transport.abort()

    relayed(stream(5), "sse_end@2,times=1")(body)


def test_a_stream_hangs_after_k_events_and_goes_on_when_the_fault_goes():
    """Two events, then silence; the rest follows untouched."""

    async def body(_, chaos):
        client = await dial(chaos)
        await until(lambda: client.body == b"".join(EVENTS[:2]))
        await settle()
        assert client.body == b"".join(EVENTS[:2])
        chaos.set([])
        await client.got(stream(5))
        client.transport.abort()

    relayed(stream(5), "sse_hang@2")(body)


def test_a_client_that_leaves_a_hanging_answer_takes_the_server_with_it():
    """No connection survives behind a hang when its client is gone."""

    async def body(server, chaos):
        client = await dial(chaos)
        await until(lambda: chaos.counts.hits)
        await settle()
        client.transport.close()
        await until(lambda: not server.open)
        await until(lambda: chaos.counts.open == 0)

    relayed(stream(5), "http_hang")(body)


def test_a_long_line_comes_whole_and_bounded():
    """A line of 10 MiB stands before the event; the proxy never holds more than its buffer."""

    async def body(_, chaos):
        client = await dial(chaos)
        await until(lambda: client.data.endswith(b"0\r\n\r\n"))
        lines = client.body.split(b"\n")
        assert max(map(len, lines)) > 10 * 1024 * 1024
        assert client.body.startswith(EVENTS[0])
        assert client.body.endswith(b"".join(EVENTS[1:]) + DONE)
        client.transport.abort()

    relayed(stream(5), "sse_long_line@1,mb=10")(body)


def test_a_gzip_bomb_is_real_and_a_thousandfold():
    """The body inflates to exactly `mb` MiB of zeros."""

    async def body(_, chaos):
        client = await dial(chaos)
        assert await client.ended() == "eof"
        head, _, bomb = client.data.partition(b"\r\n\r\n")
        assert b"content-encoding: gzip" in head
        assert f"content-length: {len(bomb)}\r\n".encode() in head
        assert gzip.decompress(bomb) == bytes(8 * 1024 * 1024)
        assert len(bomb) < 8 * 1024 * 1024 / 900

    relayed(JSON, "http_gzip_bomb,mb=8")(body)


def test_a_flood_stops_when_its_reader_stops():
    """A body of 64 GiB costs no memory: it is made as it is read."""

    async def body(_, chaos):
        client = await dial(chaos)
        client.transport.pause_reading()
        await settle()
        sent = chaos.counts.bytes_down
        await settle()
        assert chaos.counts.bytes_down == sent < 32 * 1024 * 1024
        client.transport.abort()
        await until(lambda: chaos.counts.open == 0)

    relayed(JSON, "http_body_flood,mb=65536")(body)


def test_trickle_starts_after_the_head():
    """The head is there at once, the body a few bytes at a time."""

    async def body(_, chaos):
        client = await dial(chaos)
        await until(lambda: client.body)
        assert 0 < len(client.body) < len(b'{"ok": true}\n')
        await client.got(JSON)
        client.transport.abort()

    relayed(JSON, "http_trickle,bytes_per_second=50")(body)
