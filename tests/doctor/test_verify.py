"""Verifying: the same load on both sides in turn, kept only where it is faster beyond chance."""

import asyncio
import random
import re
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doctor.traffic import asks
from slipstream.core.errors import BadRequest
from slipstream.doctor.outcome import Took, block_length, blocks, interval, outcome
from slipstream.doctor.replay_model import Asked
from slipstream.doctor.verify import REQUESTS_MIN, Verified, compare, ensure_enough, judged, stretched


def side(factor: float, count: int = 300, *, failed: float = 0.0, seed: int = 1) -> list[Took]:
    rng = random.Random(seed)
    return [Took(at / 10, factor * rng.lognormvariate(0, 0.3), rng.random() >= failed) for at in range(count)]


@pytest.mark.parametrize(
    ("factor", "failed", "count", "kept"),
    [(0.5, 0.0, 300, True), (1.0, 0.0, 300, False), (2.0, 0.0, 300, False), (0.5, 0.2, 300, False), (0.5, 0.0, 20, False)],
)  # fmt: skip
def test_what_is_kept(factor: float, failed: float, count: int, kept: bool) -> None:
    """Faster: kept. Equal, slower, failing, or too few to tell: taken back, with a word on why."""
    done = judged(side(1.0, count), side(factor, count, failed=failed, seed=2), 4)

    assert done.is_kept is kept
    assert done.verdict.startswith("Kept" if kept else "Taken back")
    assert done.is_told is (count > 20)


def test_equal_sides_are_seldom_told_apart() -> None:
    """No difference, 40 times: it is kept in hardly more than one in twenty."""
    kept = sum(judged(side(1.0, 200, seed=s), side(1.0, 200, seed=1000 + s), 4).is_kept for s in range(40))

    assert kept <= 5


def test_sides_take_turns_and_play_the_same() -> None:
    """ABBA: each stretch is played with and without, and who is first alternates."""
    order: list[bool] = []
    played: list[tuple[bool, tuple[float, ...]]] = []

    async def switch(is_fixed: bool) -> None:
        order.append(is_fixed)

    async def drive(stretch: Sequence[Asked]) -> list[Took]:
        played.append((order[-1], tuple(each.at for each in stretch)))
        return [Took(each.at, 0.5 if order[-1] else 1.0, True) for each in stretch]

    done = asyncio.run(compare(asks(400, 10), 40, switch, drive))

    assert order == [False, True, True, False, False, True, True, False]
    without = sorted(stretch for is_fixed, stretch in played if not is_fixed)
    assert without == sorted(stretch for is_fixed, stretch in played if is_fixed)
    assert done.is_kept
    assert done.gain == pytest.approx(0.5)


@settings(max_examples=80, deadline=None)
@given(
    rate=st.floats(0.02, 30.0),
    count=st.integers(1, 150),
    seconds=st.floats(1.0, 400.0),
)
def test_what_cannot_be_told_is_refused_before_it_is_paid_for(
    rate: float, count: int, seconds: float
) -> None:
    """Nothing is switched, nothing sent; the time that is named is enough, and what is played is judged."""
    asked = asks(count, rate)
    sent: list[int] = []
    switched: list[bool] = []

    async def switch(is_fixed: bool) -> None:
        switched.append(is_fixed)

    async def drive(stretch: Sequence[Asked]) -> list[Took]:
        sent.append(len(stretch))
        return [Took(each.at, 1.0, True) for each in stretch]

    def played(length: float) -> Verified:
        return asyncio.run(compare(asked, length, switch, drive))

    refused: BadRequest | None = None
    try:
        done = played(seconds)
    except BadRequest as error:
        refused = error
    if refused is None:
        assert done.is_told
        return
    assert (sent, switched) == ([], [])
    assert "nothing was sent" in refused.hint
    named = re.search(r"Verify for ([\d,]+) s", refused.hint)
    if named is None:
        assert 4 * count < REQUESTS_MIN
    else:
        needed = int(named[1].replace(",", ""))
        assert needed > seconds
        assert played(needed).is_told


def test_two_requests_a_second_for_half_a_minute_are_too_few() -> None:
    """The sentence says how many there would be, and how long would do."""
    even = tuple(msgspec.structs.replace(each, at=at / 2) for at, each in enumerate(asks(240, 2)))
    with pytest.raises(
        BadRequest, match=r"^30 s of this load are 30 requests on a side; 60 are needed"
    ) as refused:
        ensure_enough(even, 30)

    assert refused.value.hint == "Verify for 60 s; nothing was sent."
    ensure_enough(even, 60)


def test_few_recorded_requests_are_played_again() -> None:
    """A short recording fills all rounds."""
    assert [len(each) for each in stretched(asks(30, 10), 100, 4)] == [30, 30, 30, 30]
    assert stretched([], 10, 4) == []


def test_blocks_keep_neighbours_together() -> None:
    """As many places as there were, in runs of the block's length."""
    places = blocks(100, 10, random.Random(1))

    assert len(places) == 100
    assert all(b == a + 1 for run in range(0, 100, 10) for a, b in zip(places[run:run + 9], places[run + 1:run + 10], strict=True))  # fmt: skip
    assert block_length(1000) > block_length(10) >= 1


def test_intervals_and_outcomes_of_little() -> None:
    """Nothing at all has numbers too."""
    assert outcome([]).p95 == 0.0
    assert interval([1.0]).holds(1.0)
    assert outcome([Took(0, 1, True), Took(0, 0.1, False)]).p95 == 1.0
