"""The fault proxy as a whole: ends, bounds, seeds, windows, changes at run time, and that nothing is left."""

import asyncio
import gc
import socket

import pytest
from chaos_rig import REQUEST, dial, event, relayed, serving, stream, until

from slipstream.core.errors import ConfigurationError
from slipstream.testing.chaos import Chaos, read_target

JSON = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"ok": true}\n'
EVENTS = [event(number) for number in range(5)]


def test_a_server_that_is_not_there_is_a_reset_and_counted():
    """The client sees a reset, not a hang."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with Chaos(f"127.0.0.1:{port}") as chaos:
            client = await dial(chaos)
            assert await client.ended() == "rst"
            assert chaos.counts.upstream_failed == 1

    asyncio.run(main())


def test_a_server_that_resets_is_passed_on_as_a_reset():
    """What the server does to its connection the client sees."""

    async def body(server, chaos):
        client = await dial(chaos)
        await client.got(JSON)
        (transport,) = server.open
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
        )
        transport.abort()
        assert await client.ended() == "rst"

    relayed(JSON)(body)


def test_a_half_closed_client_still_gets_its_answer():
    """FIN from the client is passed on; the other direction lives on."""

    async def body(_, chaos):
        client = await dial(chaos)
        client.transport.write_eof()
        await client.got(JSON)

    relayed(JSON, "latency:down,ms=20")(body)


def test_connections_beyond_the_limit_are_reset_and_counted():
    """The bound bites, is counted, and room comes back."""

    async def main():
        async with serving(JSON) as server, Chaos(server.url, max_connections=2) as chaos:
            first = await dial(chaos)
            await first.got(JSON)
            second = await dial(chaos)
            await second.got(JSON)
            third = await dial(chaos)
            assert await third.ended() == "rst"
            assert chaos.counts.over_limit == 1
            first.transport.abort()
            await until(lambda: chaos.counts.open == 1)
            fourth = await dial(chaos)
            await fourth.got(JSON)

    asyncio.run(main())


def test_the_same_seed_strikes_the_same_connections():
    """`rate` is drawn from the seed and the connection's number alone."""

    async def ends(seed):
        async with serving(JSON) as server, Chaos(server.url, faults=["refuse,rate=0.5"], seed=seed) as chaos:
            seen = []
            for _ in range(24):
                client = await dial(chaos)
                await until(lambda: client.data or client.end)  # noqa: B023
                seen.append(client.end is not None)
                client.transport.abort()
            return seen

    first, again, other = (asyncio.run(ends(seed)) for seed in (3, 3, 4))
    assert first == again != other
    assert 0 < sum(first) < 24


def test_windows_open_and_close_by_themselves():
    """A fault acts from `from` to `to` on new connections, and not after."""

    async def body(_, chaos):
        before = await dial(chaos)
        await before.got(JSON)
        await until(lambda: chaos.counts.hits.get("refuse"))
        with pytest.raises(ConnectionRefusedError):
            await dial(chaos)
        await until(lambda: chaos._listener.is_open)
        after = await dial(chaos)
        await after.got(JSON)

    relayed(JSON, "refuse,mode=stop,from=0.1,to=0.3")(body)


def test_setting_faults_reaches_open_connections():
    """A connection that is open gets the faults that are set later."""

    async def body(_, chaos):
        client = await dial(chaos)
        await client.got(JSON)
        chaos.set(["http_status,code=429,retry_after=7"])
        client.transport.write(REQUEST)
        assert await client.ended() == "eof"
        answer = client.data.removeprefix(JSON)
        assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"\r\nretry-after: 7\r\n" in answer

    relayed(JSON)(body)


def test_a_bad_fault_changes_nothing():
    """Setting a list with one mistake in it leaves the faults as they were."""

    async def body(_, chaos):
        with pytest.raises(ConfigurationError):
            chaos.set(["latency:down,ms=1", "no_such_fault"])
        assert [fault.name for fault in chaos.faults.all()] == ["split_down"]

    relayed(JSON, "split:down")(body)


@pytest.mark.parametrize(
    "fault", ["latency:down,ms=1000", "timeout:up", "sse_hang@1", "http_trickle", "split:down,mean=1"]
)
def test_closing_in_the_middle_leaves_nothing(fault):
    """After `aclose` no connection or task is left, whatever was going on; `relayed` checks the server."""

    async def body(server, chaos):
        clients = [await dial(chaos) for _ in range(20)]
        await until(lambda: len(server.open) == 20)
        await chaos.aclose()
        assert len(asyncio.all_tasks()) == 1
        await chaos.aclose()
        for client in clients:
            await client.ended()
        with pytest.raises(ConnectionRefusedError):
            await dial(chaos)

    relayed(stream(50), fault)(body)


def test_cancelled_at_any_moment_it_leaves_nothing():
    """The task that owns the proxy is cancelled after k turns of the loop: no socket stays open."""

    async def use(server):
        async with Chaos(server.url, faults=["split:down,mean=3"], seed=1) as chaos:
            clients = [await dial(chaos) for _ in range(3)]
            await asyncio.gather(*(client.ended() for client in clients))

    async def main():
        async with serving(stream(20)) as server:
            for turns in range(60):
                task = asyncio.create_task(use(server))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await until(lambda: not server.open and len(asyncio.all_tasks()) == 1)
        gc.collect()  # a socket left open would warn here, and warnings fail the test

    asyncio.run(main())


def test_it_works_the_same_on_uvloop():
    """Reset, clean end and split bytes on the loop that serves in production."""
    uvloop = pytest.importorskip("uvloop")

    async def main():
        async with serving(stream(5)) as server:
            for fault, end, passed in [("sse_reset@2", "rst", EVENTS[:2]), ("sse_fin@3", "eof", EVENTS[:3])]:
                async with Chaos(server.url, faults=[fault, "split:down,mean=2"]) as chaos:
                    client = await dial(chaos)
                    assert await client.ended() == end
                    assert client.body == b"".join(passed)
            async with Chaos(server.url, faults=["refuse,mode=stop"]) as chaos:
                with pytest.raises(ConnectionRefusedError):
                    await dial(chaos)
                chaos.set([])
                client = await dial(chaos)
                await client.got(stream(5))
                client.transport.abort()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:80",
        "https://127.0.0.1",
        "http://localhost.example.org",
        "ftp://127.0.0.1:21",
        "http://",
        "http://127.0.0.1:99999",
        "127.0.0.1",
        "http://user@127.0.0.1:80",
        "http://0.0.0.0:80",
        "http://[::ffff:10.0.0.1]:80",
    ],
)
def test_only_loopback_unless_named(url):
    """A server elsewhere, or one that cannot be read as an address, is refused before anything is opened."""
    with pytest.raises(ConfigurationError):
        read_target(url)


def test_a_named_host_is_allowed():
    """`allow_hosts` is the one way off this machine."""
    assert read_target("http://192.0.2.1:80", allow_hosts=["192.0.2.1"]).named
    assert not read_target("http://[::1]:80").named
    assert read_target("localhost:8000").port == 8000


def test_a_taken_port_is_a_clear_error():
    """The message names the port."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigurationError, match=str(port)):
                await Chaos("127.0.0.1:9", port=port).__aenter__()

    asyncio.run(main())
