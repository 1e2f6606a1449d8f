"""A slot: a worker that dies comes back, ever later while it keeps dying; one that is told to end ends."""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
from hypothesis import given
from hypothesis import strategies as st

from server.waiting import until
from slipstream.core.meters import Counters
from slipstream.server import messages
from slipstream.server.process import start_worker
from slipstream.server.slots import RestartPolicy, Slot, SlotState

POLICY = RestartPolicy()
FAKE = str(Path(__file__).with_name("fake_worker.py"))


class Owner:
    """Greets workers, keeps what they say."""

    def __init__(self) -> None:
        self.heard_messages: list[messages.FromWorker] = []

    def greeting(self, slot: int) -> list[msgspec.Struct]:
        return [messages.Begin(b"{}", slot, "", b"salt")]

    def heard(self, slot: int, message: messages.FromWorker) -> None:
        self.heard_messages.append(message)


@contextlib.asynccontextmanager
async def running(
    manner: str, *, policy: RestartPolicy = POLICY
) -> AsyncIterator[tuple[Slot, Owner, Counters]]:
    owner, counters = Owner(), Counters()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        start = functools.partial(start_worker, (sys.executable, FAKE, manner), listener)
        slot = Slot(0, start, owner, counters, policy=policy)
        task = asyncio.create_task(slot.run())
        yield slot, owner, counters
        slot.drain(0.0)
        async with asyncio.timeout(60):
            await task
    assert slot.state is SlotState.ENDED
    assert slot.in_flight == 0
    assert not [child for child in psutil.Process().children() if FAKE in child.cmdline()]


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_delay_is_bounded_and_spread_over_its_upper_half(deaths: int, draw: float) -> None:
    """However often it died, it waits at most the longest, and never less than half of its step."""
    delay = POLICY.delay_seconds(deaths, draw)

    assert 0 <= delay <= POLICY.longest_seconds
    assert delay >= POLICY.delay_seconds(deaths, 0.0)
    assert POLICY.delay_seconds(deaths + 1, 0.0) >= POLICY.delay_seconds(deaths, 0.0)


@given(st.integers(0, 10_000), st.floats(0, 1e6))
def test_a_healthy_life_forgives_earlier_deaths(before: int, ran_seconds: float) -> None:
    """Deaths in a row are those of workers that died young; after a long life the next start is at once."""
    deaths = POLICY.deaths(before, ran_seconds)

    assert deaths == (1 if ran_seconds >= POLICY.healthy_seconds else before + 1)
    assert (POLICY.delay_seconds(deaths, 0.5) == 0) == (deaths == 1)


def test_killed_worker_comes_back_in_its_slot() -> None:
    """After kill -9 another process serves in the same slot; its predecessor's counts are kept."""

    async def main() -> None:
        async with running("good") as (slot, _, counters):
            await until(lambda: slot.state is SlotState.READY)
            first = slot.pid
            assert first is not None
            assert slot.counts() == {"requests": 5}
            os.kill(first, signal.SIGKILL)
            await until(lambda: slot.state is SlotState.READY and slot.pid != first)

            assert slot.restarts == counters.snapshot()["worker_restarts"] == 1
            assert slot.counts() == {"requests": 10}
            assert slot.in_flight == 3

    asyncio.run(main())


def test_drained_worker_says_its_last_words() -> None:
    """What a worker says between being told to end and its end is heard; it is not started again."""

    async def main() -> None:
        async with running("good") as (slot, owner, counters):
            await until(lambda: slot.state is SlotState.READY)
            slot.drain(30.0)
            await until(lambda: slot.state is SlotState.ENDED)

            assert slot.counts() == {"requests": 6}
            assert [type(message) for message in owner.heard_messages] == [messages.Ready, messages.Records]
            assert counters.snapshot()["worker_restarts"] == 0

    asyncio.run(main())


def test_worker_that_does_not_end_is_killed() -> None:
    """A drain has an end even where the worker ignores it."""

    async def main() -> None:
        async with running("deaf") as (slot, _, _):
            await until(lambda: slot.state is SlotState.READY)

    asyncio.run(main())


def test_worker_that_keeps_dying_is_started_ever_later() -> None:
    """A crash loop is counted and slowed down, and can be ended while it waits."""

    async def main() -> None:
        policy = RestartPolicy(first_seconds=0.01, longest_seconds=3_600.0)
        async with running("dies", policy=policy) as (slot, _, counters):
            await until(lambda: slot.restarts >= 3)
            assert counters.snapshot()["worker_restarts"] == slot.restarts

    asyncio.run(main())


def test_worker_that_leaves_by_itself_is_followed_at_once() -> None:
    """Somebody sends it SIGTERM: while it drains, its successor serves already; nobody died."""

    async def main() -> None:
        async with running("good") as (slot, _, counters):
            await until(lambda: slot.state is SlotState.READY)
            first = slot.pid
            assert first is not None
            os.kill(first, signal.SIGTERM)
            await until(lambda: slot.state is SlotState.READY and slot.pid not in {None, first})

            assert psutil.pid_exists(first)
            assert slot.in_flight == 6
            assert counters.snapshot()["worker_restarts"] == 0

    asyncio.run(main())


def test_no_process_to_be_had_is_survived() -> None:
    """Where the system refuses a process or a descriptor, the slot waits and tries again."""

    async def main() -> None:
        attempts = 0

        async def refused() -> object:
            nonlocal attempts
            attempts += 1
            raise OSError(11, "Resource temporarily unavailable")

        slot = Slot(0, refused, Owner(), Counters(), policy=RestartPolicy(first_seconds=0.001))
        task = asyncio.create_task(slot.run())
        await until(lambda: attempts >= 3)
        slot.drain(0.0)
        async with asyncio.timeout(60):
            await task
        assert slot.state is SlotState.ENDED

    asyncio.run(main())


def test_worker_that_refuses_its_settings_is_heard() -> None:
    """A worker that cannot serve the settings says so to the owner, who decides."""

    async def main() -> None:
        async with running("refuses", policy=RestartPolicy(first_seconds=60.0)) as (_, owner, _):
            await until(lambda: owner.heard_messages)
            assert owner.heard_messages[0] == messages.Refused("no", "set it right")

    asyncio.run(main())
