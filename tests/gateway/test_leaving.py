"""What an admin route does ends when whoever asked for it leaves."""

import asyncio
from collections.abc import Callable

import pytest
from starlette.requests import Request

from slipstream.core.errors import Unavailable
from slipstream.gateway.leaving import while_there


def request(receive: Callable[[], object]) -> Request:
    """A request whose body was read."""
    return Request({"type": "http", "method": "POST", "headers": []}, receive)  # type: ignore[arg-type]


class Client:
    """Sends nothing more, and may leave."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        await self.left.wait()
        return {"type": "http.disconnect"}


async def tasks_left() -> int:
    """Tasks beside the test's own."""
    await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


def test_whoever_stays_is_answered() -> None:
    """What the work returns; nothing is left running."""

    async def main() -> tuple[int | None, int]:
        async def work() -> int:
            await asyncio.sleep(0.01)
            return 7

        return await while_there(request(Client().receive), work()), await tasks_left()

    assert asyncio.run(main()) == (7, 0)


def test_what_fails_is_told() -> None:
    """An error of the work is the answer's."""

    async def main() -> None:
        async def work() -> int:
            raise Unavailable("It is busy.")

        await while_there(request(Client().receive), work())

    with pytest.raises(Unavailable, match="busy"):
        asyncio.run(main())


def test_for_whoever_leaves_nothing_is_done_further() -> None:
    """The work is cancelled, and has ended when that is told."""

    async def main() -> tuple[int | None, list[str], int]:
        client, seen = Client(), []

        async def work() -> int:
            try:
                await asyncio.sleep(600)
            finally:
                await asyncio.sleep(0.01)
                seen.append("ended")
            return 7

        asyncio.get_running_loop().call_later(0.02, client.left.set)
        return await while_there(request(client.receive), work()), seen, await tasks_left()

    assert asyncio.run(main()) == (None, ["ended"], 0)


def test_a_handler_that_is_cancelled_ends_its_work() -> None:
    """The server ends while somebody waits."""

    async def main() -> tuple[bool, int]:
        is_ended = asyncio.Event()

        async def work() -> int:
            try:
                await asyncio.sleep(600)
            finally:
                is_ended.set()
            return 7

        handler = asyncio.create_task(while_there(request(Client().receive), work()))
        await asyncio.sleep(0.02)
        handler.cancel()
        await asyncio.wait([handler])
        return is_ended.is_set(), await tasks_left()

    assert asyncio.run(main()) == (True, 0)
