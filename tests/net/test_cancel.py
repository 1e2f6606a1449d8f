"""Cancelling the client anywhere leaves no place taken, no waiter, no connection."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trustme

from net.conftest import Run
from net.upstream import CancelledAt, Script, Upstream, Visit, answer, serving
from slipstream.core.errors import SlipstreamError
from slipstream.net.client import ClientOptions, HttpClient

Act = Callable[[HttpClient], Awaitable[None]]
LEAST = ClientOptions(connections=1, waiting=4)


async def slowly(visit: Visit) -> None:
    """Head and pieces each in a packet of their own; an interim answer first."""
    await visit.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await asyncio.sleep(0.001)
    await visit.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(3):
        await asyncio.sleep(0.001)
        await visit.send(b"1\r\nx\r\n")
    await visit.send(b"0\r\n\r\n")


async def dying(visit: Visit) -> None:
    """Every kept connection turns out dead."""
    if visit.nth_on_connection == 2:
        visit.writer.close()
    else:
        await slowly(visit)


async def read_all(client: HttpClient) -> None:
    """A careful caller."""
    response = await client.request("POST", "/", (), b"{}")
    try:
        async for _ in response:
            pass
    finally:
        response.close()


async def read_carelessly(client: HttpClient) -> None:
    """A caller who never closes anything."""
    async for _ in await client.request("POST", "/", (), b"{}"):
        pass


async def check_nothing_is_left(client: HttpClient) -> None:
    """No place in use, nobody waiting, and the one place there is can be had."""
    state = client.snapshot()
    assert (state.in_use, state.opening, state.waiting) == (0, 0, 0)
    async with asyncio.timeout(5):
        await read_all(client)


async def cancelled_at(up: Upstream, act: Act, step: int, moment: str, *, is_kept: bool) -> bool:
    """Do it on a fresh client, cancelled at that step; whether there was such a step."""
    client = HttpClient(up.url, LEAST)
    try:
        if is_kept:
            await read_all(client)
        work = CancelledAt(act(client), step, moment)  # type: ignore[arg-type]
        task = asyncio.ensure_future(work)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        await check_nothing_is_left(client)
    finally:
        await client.aclose()
    assert client.snapshot().open == 0
    await up.deserted()
    return work.has_cancelled


async def cancel_everywhere(script: Script, act: Act, moment: str, *, is_kept: bool = False) -> int:
    """At every step there is; how many there were."""
    async with serving(script) as up:
        step = 0
        while await cancelled_at(up, act, step, moment, is_kept=is_kept):
            step += 1
        return step


@pytest.mark.parametrize("moment", ["asleep", "awake"])
@pytest.mark.parametrize("act", [read_all, read_carelessly])
def test_cancel_at_every_await(run: Run, act: Act, moment: str) -> None:
    """Connecting, waiting for the head, inside the body."""
    assert run(cancel_everywhere(slowly, act, moment)) >= 4


@pytest.mark.parametrize("moment", ["asleep", "awake"])
@pytest.mark.parametrize("script", [slowly, dying])
def test_cancel_at_every_await_on_a_kept_connection(run: Run, script: Script, moment: str) -> None:
    """Also where the kept connection is dead and another is being opened in its place."""
    assert run(cancel_everywhere(script, read_all, moment, is_kept=True)) >= 3


@pytest.mark.parametrize("moment", ["asleep", "awake"])
def test_cancel_at_every_await_while_waiting_for_a_place(run: Run, moment: str) -> None:
    """In the queue, and in the moment the place is granted: the next in turn gets it."""

    async def act(client: HttpClient) -> None:
        """Runs beside a holder of the only place and in front of another waiter."""
        await read_all(client)

    async def main() -> None:
        async with serving(slowly) as up:
            step = 0
            has_cancelled = True
            while has_cancelled:
                client = HttpClient(up.url, LEAST)
                holder = asyncio.ensure_future(read_all(client))
                await asyncio.sleep(0)
                work = CancelledAt(act(client), step, moment)
                waiter = asyncio.ensure_future(work)
                await asyncio.sleep(0)
                behind = asyncio.ensure_future(read_all(client))
                with contextlib.suppress(asyncio.CancelledError):
                    await waiter
                await holder
                async with asyncio.timeout(5):
                    await behind
                await check_nothing_is_left(client)
                await client.aclose()
                has_cancelled = work.has_cancelled
                step += 1
            assert step >= 4

    run(main())


@pytest.mark.parametrize("moment", ["asleep", "awake"])
def test_cancel_at_every_await_with_tls(
    run: Run, tmp_path_factory: pytest.TempPathFactory, moment: str
) -> None:
    """Inside the handshake too."""
    authority = trustme.CA()
    ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    options = ClientOptions(connections=1, ca_file=str(ca_file))

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda *_: None
        )  # handshakes cut on the server's side
        async with serving(slowly, tls=context) as up:
            step = 0
            has_cancelled = True
            while has_cancelled:
                client = HttpClient(up.url, options)
                work = CancelledAt(read_all(client), step, moment)
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.ensure_future(work)
                await check_nothing_is_left(client)
                await client.aclose()
                await up.deserted()
                has_cancelled = work.has_cancelled
                step += 1
            assert step >= 4

    run(main())


async def cancel_at_random(seed: int, count: int) -> None:
    """Many callers on few places against a moody upstream, cancelled at any moment."""
    chance = random.Random(seed)

    async def moody(visit: Visit) -> None:
        mood = chance.random()
        if mood < 0.4:
            await visit.send(answer())
        elif mood < 0.7:
            await slowly(visit)
        elif mood < 0.8:
            await visit.send(answer(b"bye", "200 OK", "connection: close"))
        elif mood < 0.85:
            await visit.send(answer() + b"garbage")
        elif mood < 0.9:
            visit.reset()
        elif mood < 0.95:
            await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")
            visit.writer.close()
        else:
            await visit.send(answer())
            visit.writer.close()

    async def caller(client: HttpClient) -> None:
        with contextlib.suppress(SlipstreamError):
            await (read_all if chance.random() < 0.5 else read_carelessly)(client)

    async with serving(moody) as up:
        client = HttpClient(
            up.url, ClientOptions(connections=5, waiting=8, idle_seconds=0.005, wait_seconds=0.02)
        )
        cancelled = 0
        running: set[asyncio.Task[None]] = set()
        while cancelled < count:
            while len(running) < 16:
                running.add(asyncio.create_task(caller(client)))
            await asyncio.sleep(chance.choice((0, 0, 0, 0.0005, 0.001)))
            victim = chance.choice(list(running))
            cancelled += victim.cancel()
            done = {task for task in running if task.done()}
            for task in done:
                assert task.cancelled() or task.exception() is None
            running -= done
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        state = client.snapshot()
        assert (state.in_use, state.opening, state.waiting) == (0, 0, 0)
        assert (
            state.created + state.closed.unopened
            >= sum(
                (
                    state.closed.lost,
                    state.closed.ended,
                    state.closed.broken,
                    state.closed.abandoned,
                    state.closed.idle,
                )
            )
            - state.stale
        )
        await client.aclose()
        assert client.snapshot().open == 0


@pytest.mark.parametrize("seed", range(2))
def test_random_cancels(run: Run, seed: int) -> None:
    """Whatever is cancelled whenever, nothing is left behind."""
    run(cancel_at_random(seed, 200))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ten_thousand_random_cancels(run: Run) -> None:
    """The full count."""
    run(cancel_at_random(7, 10_000))
