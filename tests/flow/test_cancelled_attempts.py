"""A request that is cancelled at any of its awaits leaves no visit, no probe, no waiter and no slot behind."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from flow.upstreams import NORMAL, Rig, Upstream, seconds
from net.upstream import CancelledAt
from slipstream.core import clock
from slipstream.core.chat import Route, parse
from slipstream.core.health import Visit
from slipstream.core.record import open_record
from slipstream.flow import virtual
from slipstream.flow.attempt import Patience
from slipstream.flow.watch import Watch, Watches

FAILS = replace(NORMAL, error_rate=1.0)
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":3}'
PATIENCE = Patience(attempts=3, first_token_seconds=2.0, total_seconds=30.0, wait_seconds=5.0)


def served_at_once() -> Rig:
    return Rig({"m": [Upstream("a")]}, patience=PATIENCE)


def tried_elsewhere() -> Rig:
    return Rig(
        {"m": [Upstream("a", (0.0, FAILS)), Upstream("b", (0.0, FAILS)), Upstream("c")]}, patience=PATIENCE
    )


def tried_again() -> Rig:
    return Rig({"m": [Upstream("a", (0.0, FAILS), (0.05, NORMAL))]}, patience=PATIENCE)


def timed_out() -> Rig:
    return Rig({"m": [Upstream("a", simulate="hang"), Upstream("b", simulate="hang,")]}, patience=PATIENCE)


def held() -> Rig:
    return Rig({"m": [Upstream("a", simulate="error=429,retry_after=1")]}, patience=PATIENCE)


def fallen_back() -> Rig:
    serving = {"m": [Upstream("a", (0.0, FAILS))], "n": [Upstream("b")]}
    return Rig(serving, patience=PATIENCE, fallbacks={"m": ["n"]})


def probing() -> Rig:
    rig = Rig({"m": [Upstream("a")]}, patience=PATIENCE)
    for place in rig.catalog.course("m", Route.CHAT).places():
        place.breaker.trip(clock.monotonic_ns() - 6_000_000_000, "reset")
    return rig


def waiting_for_a_probe() -> Rig:
    rig = probing()
    (place,) = rig.catalog.course("m", Route.CHAT).places()
    probe = Visit(place, place.paces[True], clock.monotonic_ns())
    asyncio.get_running_loop().call_later(0.5, lambda: rig.attempts.leave(probe))
    return rig


async def errand(rig: Rig) -> None:
    """What a flight does with its attempts."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    record = open_record(route="chat/completions")
    watch = Watch(Watches(loop), task)
    try:
        opened = await rig.attempts.open(parse(Route.CHAT, BODY), record, watch)
        try:
            chunk = opened.first
            while chunk is not None:
                chunk = await anext(opened.body, None)
            record.outcome = "served"
        finally:
            await opened.reply.aclose()
    finally:
        watch.stop()


@pytest.mark.parametrize("moment", ["asleep", "awake"])
@pytest.mark.parametrize(
    "scene",
    [
        served_at_once,
        tried_elsewhere,
        tried_again,
        timed_out,
        held,
        fallen_back,
        probing,
        waiting_for_a_probe,
    ],
)
def test_cancelled_at_every_await(scene: Callable[[], Rig], moment: str) -> None:
    """At each step of each way to an answer."""

    async def one(step: int) -> bool:
        rig = scene()
        work = CancelledAt(errand(rig), step, moment)
        task = asyncio.ensure_future(_awaiting(work))
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        await asyncio.sleep(1.0)
        assert rig.nothing_is_left(), (step, rig.catalog.snapshot())
        for place in rig.catalog.course("m", Route.CHAT).places():
            upstream = place.what.model
            assert isinstance(upstream, Upstream)
            assert upstream.running == 0
        assert len(asyncio.all_tasks()) == 1
        return work.has_cancelled

    async def main() -> None:
        step = 0
        while await one(step):
            step += 1
        assert step >= 2
        assert seconds() < 1000

    virtual.run(main())


async def _awaiting(work: CancelledAt) -> None:
    await work


def test_a_thousand_clients_that_leave_at_random_leave_nothing() -> None:
    """Whatever goes on at their upstreams meanwhile."""
    import random

    async def main() -> None:
        rng = random.Random(5)
        ups = [
            Upstream("a", (0.0, replace(NORMAL, error_rate=0.3))),
            Upstream("b", (0.0, NORMAL), (10.0, FAILS), (25.0, NORMAL)),
            Upstream("c", (0.0, replace(NORMAL, ttft_ms=3000)), (30.0, NORMAL)),
        ]
        rig = Rig({"m": ups}, patience=PATIENCE)
        asked = []
        for _ in range(1000):
            leave = rng.expovariate(1 / 0.4) if rng.random() < 0.7 else None
            asked.append(asyncio.ensure_future(rig.ask(leave_after=leave)))
            await asyncio.sleep(rng.expovariate(25.0))
        await asyncio.gather(*asked)
        await asyncio.sleep(1)
        assert len(rig.records) == 1000
        assert rig.nothing_is_left()
        assert [each.running for each in ups] == [0, 0, 0]
        assert len(asyncio.all_tasks()) == 1

    virtual.run(main())
