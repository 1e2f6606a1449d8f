"""Verifying by live traffic: with and without in turn by time, what was left by the other side left out."""

import asyncio
import random
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from doctor.traffic import asks, happened, times
from slipstream.core import clock
from slipstream.core.record import Record
from slipstream.doctor.outcome import Took
from slipstream.doctor.verify import ROUNDS, Verified, turns
from slipstream.doctor.verify_live import WASHOUT_SHARE, by_chance, compare_live, judged_by_rounds

A_RECORD = happened(asks(1, 10), {"a": times()})[0][0]
SECOND = 10**9


def came(at_ns: int, seconds: float) -> Record:
    return replace(A_RECORD, arrived_wall_ns=at_ns, duration_ns=round(seconds * 1e9), outcome="served")


def test_both_sides_take_turns() -> None:
    """ABBA, so that what grows by itself meanwhile hits both alike."""
    assert turns(2) == [False, True, True, False]
    assert sum(turns(ROUNDS)) == ROUNDS


def stretches(gain: float, spread: float, seed: int, rounds: int = 12) -> list[tuple[bool, list[Took]]]:
    """Stretches of 30 requests; each stretch is slower or faster as a whole, whatever is in force."""
    rng, made = random.Random(seed), []
    for is_fixed in turns(rounds):
        level = rng.lognormvariate(0, spread) * (1 - gain if is_fixed else 1.0)
        made.append((is_fixed, [Took(at / 3, level * rng.lognormvariate(0, 0.3), True) for at in range(30)]))
    return made


LONG = pytest.mark.long


@pytest.mark.parametrize("spread", [pytest.param(0.0, marks=LONG), 0.2, pytest.param(0.4, marks=LONG)])
def test_stretches_that_differ_by_themselves_are_no_gain(spread: float) -> None:
    """Nothing was gained, 40 times: it is kept in hardly more than one in twenty."""
    assert sum(judged_by_rounds(stretches(0.0, spread, seed)).is_kept for seed in range(40)) <= 5


def test_a_real_gain_is_kept() -> None:
    """A p95 that is 40 % lower shows through stretches that spread by 10 %."""
    assert sum(judged_by_rounds(stretches(0.4, 0.1, seed)).is_kept for seed in range(20)) >= 19


def test_the_chance_of_a_change() -> None:
    """Exact: of all signs, those that give as low a mean."""
    assert by_chance([-1.0] * 6) == 1 / 64
    assert by_chance([1.0, -1.0]) == 0.75
    assert by_chance([]) == 1.0


@pytest.mark.long
@pytest.mark.parametrize(("factor", "kept"), [(0.4, True), (1.5, False)])
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

    async def recorded(since_wall_ns: int, until_wall_ns: int) -> list[Record]:
        washed.append(since_wall_ns)
        return [each for each in made if since_wall_ns <= each.arrived_wall_ns < until_wall_ns]

    async def oldest() -> float:
        return 0.0

    async def main() -> tuple[int, object]:
        began_ns = clock.wall_ns()
        coming = asyncio.create_task(traffic())
        done = await compare_live(6.0, switch, recorded, oldest)
        coming.cancel()
        assert washed[0] >= began_ns + round(0.4 * WASHOUT_SHARE * 1e9)
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

    async def recorded(_since: int, _until: int) -> list[Record]:
        assert len(asked) in {0, 3}
        return []

    async def oldest() -> float:
        asked.append(ages[len(asked)])
        return asked[-1]

    done = asyncio.run(compare_live(0.08, nothing, recorded, oldest))

    assert not done.is_kept
    assert "too few" in done.verdict


def compared(met: Callable[[int, bool], Record]) -> tuple[Verified, list[bool]]:
    """The verdict where 30 requests come in each stretch, each with what it met; what was switched to."""
    switched: list[tuple[int, bool]] = []

    async def switch(is_fixed: bool) -> None:
        switched.append((clock.wall_ns(), is_fixed))

    async def recorded(since_wall_ns: int, until_wall_ns: int) -> list[Record]:
        is_fixed = [each for at_ns, each in switched if at_ns <= since_wall_ns][-1]
        step = (until_wall_ns - since_wall_ns) // 30
        return [replace(met(at, is_fixed), arrived_wall_ns=since_wall_ns + at * step) for at in range(30)]

    async def oldest() -> float:
        return 0.0

    done = asyncio.run(compare_live(0.6, switch, recorded, oldest))
    return done, [is_fixed for _, is_fixed in switched]


def test_what_does_harm_ends_at_once() -> None:
    """Everything fails with the fix: it is taken back after its first stretch, not after all of them."""

    def met(at: int, is_fixed: bool) -> Record:
        return replace(came(0, 0.1), outcome="failed" if is_fixed else "served")

    done, switched = compared(met)

    assert switched == [False, True]
    assert not done.is_kept
    assert "before the time was over: 100% of the requests failed with it, 0% without" in done.verdict


@pytest.mark.parametrize(("share", "kept"), [(10, True), (3, False), (1, False)])
def test_what_is_refused_for_the_fix_is_not_the_clients_fault(share: int, kept: bool) -> None:
    """Faster, but each third or each is a 404 with it, each tenth without: taken back, at once."""

    def met(at: int, is_fixed: bool) -> Record:
        made = came(0, (0.1 if is_fixed else 0.5) + at / 1e3)
        is_refused = at % (share if is_fixed else 10) == 0
        return replace(made, outcome="refused", status=404) if is_refused else made

    done, switched = compared(met)

    assert done.is_kept is kept
    assert ("were refused (4xx) with it, 10% without" in done.verdict) is not kept
    assert len(switched) == (12 if kept else 2)
