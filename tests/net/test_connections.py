"""The pool around real connections: order, bounds, time."""

import asyncio

import pytest

from net.conftest import Run
from net.upstream import Visit, answer, replying, serving
from slipstream.core.errors import Unavailable, UpstreamTimeout
from slipstream.net.client import ClientOptions, HttpClient


async def use(client: HttpClient) -> None:
    (await client.request("POST", "/", (), b"{}")).close()


def test_waiters_are_served_in_order(run: Run) -> None:
    """First come, first served, over the one connection there may be."""

    async def slowly(visit: Visit) -> None:
        await asyncio.sleep(0.002)
        await visit.send(answer())

    async def main() -> None:
        async with serving(slowly) as up:
            client = HttpClient(up.url, ClientOptions(connections=1))
            order: list[int] = []

            async def caller(number: int) -> None:
                await use(client)
                order.append(number)

            await asyncio.gather(*(caller(number) for number in range(8)))
            assert order == list(range(8))
            assert client.snapshot().created == 1
            await client.aclose()

    run(main())


def test_too_many_waiters_are_turned_away(run: Run) -> None:
    """Beyond `waiting` the answer is immediate and names the setting."""

    async def never(visit: Visit) -> None:
        await visit.until_left()

    async def main() -> None:
        async with serving(never) as up:
            client = HttpClient(up.url, ClientOptions(connections=1, waiting=1))
            running = [asyncio.ensure_future(use(client)) for _ in range(2)]
            await asyncio.sleep(0.01)
            with pytest.raises(Unavailable, match="waiting") as caught:
                await use(client)
            assert caught.value.code == "pool_exhausted"
            assert client.snapshot().refused == 1
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            await client.aclose()

    run(main())


def test_waiting_has_an_end(run: Run) -> None:
    """Who waits too long is told, and the queue is empty again."""

    async def never(visit: Visit) -> None:
        await visit.until_left()

    async def main() -> None:
        async with serving(never) as up:
            client = HttpClient(up.url, ClientOptions(connections=1, wait_seconds=0.02))
            holder = asyncio.ensure_future(use(client))
            await asyncio.sleep(0.01)
            with pytest.raises(UpstreamTimeout, match="wait_seconds") as caught:
                await use(client)
            assert caught.value.code == "pool_timeout"
            assert (client.snapshot().waiting, client.snapshot().timed_out) == (0, 1)
            holder.cancel()
            await asyncio.wait([holder])
            await client.aclose()

    run(main())


def test_closing_turns_waiters_away(run: Run) -> None:
    """Nobody waits for a client that is closed."""

    async def never(visit: Visit) -> None:
        await visit.until_left()

    async def main() -> None:
        async with serving(never) as up:
            client = HttpClient(up.url, ClientOptions(connections=1))
            running = [asyncio.ensure_future(use(client)) for _ in range(3)]
            await asyncio.sleep(0.01)
            await client.aclose()
            results = await asyncio.gather(*running, return_exceptions=True)
            assert [type(result).__name__ for result in results] == [
                "UpstreamFailed",
                "Unavailable",
                "Unavailable",
            ]

    run(main())


def test_unused_connections_are_closed(run: Run) -> None:
    """After `idle_seconds`, without anybody asking."""

    async def main() -> None:
        async with serving(replying(answer())) as up:
            client = HttpClient(up.url, ClientOptions(idle_seconds=0.02))
            await asyncio.gather(use(client), use(client))
            assert client.snapshot().idle == 2
            await up.deserted()
            assert (client.snapshot().open, client.snapshot().closed.idle) == (0, 2)
            await use(client)
            await client.aclose()

    run(main())


def test_old_connections_are_replaced(run: Run) -> None:
    """None is used beyond `life_seconds`, however busy."""

    async def main() -> None:
        async with serving(replying(answer())) as up:
            client = HttpClient(up.url, ClientOptions(life_seconds=0.03))
            async with asyncio.timeout(5):
                while client.snapshot().created < 3:
                    await use(client)
                    await asyncio.sleep(0.001)
            assert client.snapshot().closed.aged >= 2
            assert client.snapshot().open <= 1
            await client.aclose()

    run(main())


def test_last_used_is_used_first(run: Run) -> None:
    """What is not needed falls idle: reuse is last in, first out."""

    async def main() -> None:
        async with serving(replying(answer())) as up:
            client = HttpClient(up.url)
            await asyncio.gather(*(use(client) for _ in range(4)))
            for _ in range(5):
                await use(client)
            numbers = sorted(visit.nth_on_connection for visit in up.visits)
            assert numbers[-5:] == [2, 3, 4, 5, 6]
            await client.aclose()

    run(main())
