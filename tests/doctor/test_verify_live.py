"""Verifying by live traffic: with and without in turn by time, what was left by the other side left out."""

import asyncio
import random

import pytest
from msgspec.structs import replace

from doctor.traffic import asks, happened, times
from slipstream.core import clock
from slipstream.core.record import Record
from slipstream.doctor.verify import ROUNDS, turns
from slipstream.doctor.verify_live import WASHOUT_SHARE, Stretch, compare_live, sides

A_RECORD = happened(asks(1, 10), {"a": times()})[0][0]
SECOND = 10**9


def came(at_ns: int, seconds: float) -> Record:
    return replace(A_RECORD, arrived_wall_ns=at_ns, duration_ns=round(seconds * 1e9), outcome="served")


def test_both_sides_take_turns() -> None:
    """ABBA, so that what grows by itself meanwhile hits both alike."""
    assert turns(2) == [False, True, True, False]
    assert sum(turns(ROUNDS)) == ROUNDS


def test_requests_belong_to_the_side_in_which_they_came() -> None:
    """However long they take; those between the stretches belong to none."""
    stretches = [Stretch(False, 0, 10 * SECOND), Stretch(True, 12 * SECOND, 20 * SECOND)]
    records = [came(at * SECOND, 5.0 + at) for at in (1, 9, 11, 12, 19, 20, 25)]
    without, with_fix = sides(list(reversed(records)), stretches)

    assert [each.seconds for each in without] == [6.0, 14.0]
    assert [each.seconds for each in with_fix] == [17.0, 24.0]


@pytest.mark.parametrize(("factor", "kept"), [(0.4, True), (1.6, False)])
def test_live_traffic_tells_whether_it_helps(factor: float, kept: bool) -> None:
    """Requests keep coming; those of the fixed stretches are faster (kept) or slower (taken back)."""
    rng = random.Random(4)
    made: list[Record] = []
    state = {"is_fixed": False}
    washed: list[int] = []

    async def traffic() -> None:
        while True:
            slow = factor if state["is_fixed"] else 1.0
            made.append(came(clock.wall_ns(), slow * rng.lognormvariate(0, 0.3)))
            await asyncio.sleep(0.002)

    async def switch(is_fixed: bool) -> None:
        state["is_fixed"] = is_fixed

    async def recorded(since_wall_ns: int) -> list[Record]:
        washed.append(since_wall_ns)
        return [each for each in made if each.arrived_wall_ns >= since_wall_ns]

    async def oldest() -> float:
        return 0.0

    async def main() -> tuple[int, object]:
        began_ns = clock.wall_ns()
        coming = asyncio.create_task(traffic())
        done = await compare_live(4.0, switch, recorded, oldest)
        coming.cancel()
        assert washed[0] >= began_ns + round(0.5 * WASHOUT_SHARE * 1e9)
        return done.requests, done

    requests, done = asyncio.run(main())

    assert done.is_kept is kept, done
    assert 120 < requests < len(made)


def test_it_waits_for_those_that_take_longest() -> None:
    """A request that is under way since before the end is waited for."""
    ages = [30.0, 30.0, 0.1]
    asked: list[float] = []

    async def nothing(_: object) -> None:
        return None

    async def recorded(_: int) -> list[Record]:
        assert len(asked) == 3
        return []

    async def oldest() -> float:
        asked.append(ages[len(asked)])
        return asked[-1]

    done = asyncio.run(compare_live(0.08, nothing, recorded, oldest))

    assert not done.is_kept
    assert "too few" in done.verdict
