"""The portal: what runs on it unwinds when its caller is cancelled, and before the caller goes on."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator

import pytest

from slipstream.core.portal import Portal

PORTAL = Portal()


class Source:
    """Numbers from the portal's loop; letting go of it takes it several turns of that loop."""

    def __init__(self, count: int = 10**9, *, turns: int = 5) -> None:
        self.made = 0
        self.running = 0
        self.released = 0
        self._count = count
        self._turns = turns

    async def numbers(self, *, stuck_at: int = -1) -> AsyncGenerator[int, None]:
        self.running += 1
        try:
            for number in range(self._count):
                if number == stuck_at:
                    await asyncio.get_running_loop().create_future()
                self.made += 1
                yield number
        finally:
            for _ in range(self._turns):
                await asyncio.sleep(0.01)
            self.running -= 1
            self.released += 1


@pytest.fixture(params=["one loop", "another loop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Each test runs twice, on loops of their own, with the same portal."""
    with asyncio.Runner() as running:
        yield running


def test_all_items_come_in_order(runner: asyncio.Runner) -> None:
    """A generator on the portal's loop is iterated to its end on the caller's."""
    source = Source(100, turns=0)

    async def main() -> list[int]:
        return [number async for number in PORTAL.iterate(source.numbers())]

    assert runner.run(main()) == list(range(100))
    assert (source.running, source.released) == (0, 1)


def test_a_cancelled_wait_unwinds_first(runner: asyncio.Runner) -> None:
    """Who is cancelled while the next item is waited for returns once the generator has let go of what it held."""
    source = Source()

    async def main() -> int:
        seen: list[int] = []

        async def listen() -> None:
            async with contextlib.aclosing(PORTAL.iterate(source.numbers(stuck_at=3))) as numbers:
                async for number in numbers:
                    seen.append(number)  # noqa: PERF401 (seen from outside as it grows)

        task = asyncio.create_task(listen())
        while len(seen) < 3:
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        return source.running

    assert runner.run(main()) == 0
    assert source.released == 1


def test_leaving_the_loop_unwinds_first(runner: asyncio.Runner) -> None:
    """Who breaks off between two items has its generator closed likewise."""
    source = Source()

    async def main() -> int:
        async with contextlib.aclosing(PORTAL.iterate(source.numbers())) as numbers:
            async for number in numbers:
                if number == 2:
                    break
        return source.running

    assert runner.run(main()) == 0
    assert source.made == 3


@pytest.mark.parametrize("stuck_at", [3, -1])
def test_a_second_cancellation_leaves_nothing_open(runner: asyncio.Runner, stuck_at: int) -> None:
    """Who is cancelled again while it unwinds goes at once; the generator is closed all the same, once."""
    source = Source(4)

    async def main() -> None:
        seen: list[int] = []

        async def listen() -> None:
            async with contextlib.aclosing(PORTAL.iterate(source.numbers(stuck_at=stuck_at))) as numbers:
                async for number in numbers:
                    seen.append(number)
                    if len(seen) == 3 and stuck_at < 0:
                        return

        task = asyncio.create_task(listen())
        while len(seen) < 3:
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        while source.running:
            await asyncio.sleep(0.001)

    runner.run(main())
    assert source.released == 1


def test_errors_cross_the_border(runner: asyncio.Runner) -> None:
    """What the generator raises is raised where it is iterated."""

    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        raise LookupError("gone")

    async def main() -> list[int]:
        return [number async for number in PORTAL.iterate(broken())]

    with pytest.raises(LookupError, match="gone"):
        runner.run(main())


def test_a_cancelled_call_is_cancelled_there(runner: asyncio.Runner) -> None:
    """`run`: cancelling the caller cancels what it awaits on the portal's loop."""
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("cancelled")

    async def main() -> None:
        task = asyncio.create_task(PORTAL.run(work()))
        await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        while not ended:
            await asyncio.sleep(0.001)

    runner.run(main())
    assert ended == ["cancelled"]
