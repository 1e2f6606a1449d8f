"""Whether a fix did what was promised: the same made-up load with and without it, in turn.

Interleaved, so that what changes by itself meanwhile hits both sides: with and without swap places in each
round (ABBA), and both sides of a round play the same stretch of recorded traffic.
"""

import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from slipstream.core.errors import BadRequest
from slipstream.doctor.outcome import Interval, Outcome, Took, block_length, blocks, interval, outcome
from slipstream.doctor.replay_model import Asked

ROUNDS = 4
SAMPLES = 400
REQUESTS_MIN = 60
"""Of each side; with fewer no p95 can be told."""

STEP_SECONDS, STEP = 10, 1.05
"""In what steps it is looked for how long would do."""

FAILED_MORE = 0.02
"""A fix after which so many more requests fail is taken back, however fast the others are."""


By = Literal["replay", "live"]
"""What a fix is verified by: the recorded requests sent again, or the traffic that is served anyway."""


class Verified(Struct, frozen=True):
    """What came of it. `gain` is the share of the p95 saved; `requests` are those of both sides."""

    without: Outcome
    with_fix: Outcome
    gain: float
    gain_interval: Interval
    requests: int
    rounds: int
    is_kept: bool
    verdict: str
    is_told: bool = True
    """Whether there were requests enough; where not, the numbers mean nothing and are not written down."""


Switch = Callable[[bool], Awaitable[None]]
"""Puts the fix in force (True) or what was before it (False)."""

Drive = Callable[[Sequence[Asked]], Awaitable[list[Took]]]


async def compare(asked: Sequence[Asked], seconds: float, switch: Switch, drive: Drive) -> Verified:
    """Play stretches of the recorded requests for `seconds` in all, half of it with the fix.

    Raises `BadRequest` where that would be too few requests to tell anything, before any of them is sent.
    """
    ensure_enough(asked, seconds)
    without: list[Took] = []
    with_fix: list[Took] = []
    stretches = stretched(asked, seconds / (2 * ROUNDS), ROUNDS)
    for number, is_fixed in enumerate(turns(len(stretches))):
        await switch(is_fixed)
        appended(with_fix if is_fixed else without, await drive(stretches[number // 2]))
    return judged(without, with_fix, len(stretches))


def ensure_enough(asked: Sequence[Asked], seconds: float) -> None:
    """Raise `BadRequest` where `seconds` of these requests are too few; it says how many would do."""
    count = _on_a_side(asked, seconds)
    if count >= REQUESTS_MIN:
        return
    needed = _seconds_needed(asked, seconds)
    hint = (
        f"Verify for {needed:,} s; nothing was sent."
        if needed
        else f"Only {len(asked):,} requests are recorded that could be sent again; nothing was sent."
    )
    raise BadRequest(
        f"{seconds:g} s of this load are {count} requests on a side; {REQUESTS_MIN} are needed to tell.",
        param="verify",
        hint=hint,
    )


def _on_a_side(asked: Sequence[Asked], seconds: float) -> int:
    return sum(map(len, stretched(asked, seconds / (2 * ROUNDS), ROUNDS)))


def _seconds_needed(asked: Sequence[Asked], seconds: float) -> int:
    """So many seconds are requests enough, in tens; 0 where no time would be.

    A stretch as long as all that was recorded, and played in every round, is the most there can be.
    """
    if ROUNDS * len(asked) < REQUESTS_MIN:
        return 0
    longest = 2 * ROUNDS * (asked[-1].at - asked[0].at + 1.0)
    needed = math.floor(seconds / STEP_SECONDS) * STEP_SECONDS
    while needed < longest:
        needed = max(needed + STEP_SECONDS, math.ceil(needed * STEP / STEP_SECONDS) * STEP_SECONDS)
        if _on_a_side(asked, needed) >= REQUESTS_MIN:
            return needed
    return needed


def turns(rounds: int) -> list[bool]:
    """With the fix (True) or without it, twice a round, in ABBA order."""
    return [bool(side) for number in range(rounds) for side in ((0, 1) if number % 2 == 0 else (1, 0))]


def appended(side: list[Took], met: Sequence[Took]) -> None:
    """Put what was met behind what its side has met before, on one line of time."""
    shift = max((each.at + each.seconds for each in side), default=0.0)
    side.extend(replace(each, at=each.at + shift) for each in met)


def stretched(asked: Sequence[Asked], seconds: float, count: int) -> list[list[Asked]]:
    """`count` stretches of `seconds` of the recorded requests, the latest; again where there are few."""
    if not asked:
        return []
    last = asked[-1].at
    found = []
    for number in range(count):
        high = last - number * seconds
        stretch = [each for each in asked if high - seconds < each.at <= high]
        if stretch:
            found.append(stretch)
    return [found[number % len(found)] for number in range(count)]


def judged(without: Sequence[Took], with_fix: Sequence[Took], rounds: int, *, seed: int = 0) -> Verified:
    """The verdict on what clients met on both sides."""
    one, other = outcome(without), outcome(with_fix)
    gain = 1.0 - other.p95 / max(one.p95, 1e-9)
    chance = random.Random(seed)  # noqa: S311 (no secret)
    gains = []
    for _ in range(SAMPLES):
        base = outcome([without[at] for at in _places(len(without), chance)])
        then = outcome([with_fix[at] for at in _places(len(with_fix), chance)])
        gains.append(1.0 - then.p95 / max(base.p95, 1e-9))
    spread = interval(gains)
    fewest = min(len(without), len(with_fix))
    is_kept, verdict = _verdict(one, other, spread, fewest)
    is_told = fewest >= REQUESTS_MIN
    return Verified(one, other, gain, spread, len(without) + len(with_fix), rounds, is_kept, verdict, is_told)


def _places(count: int, chance: random.Random) -> list[int]:
    return blocks(count, block_length(count), chance) if count else []


def _verdict(one: Outcome, other: Outcome, gain: Interval, count: int) -> tuple[bool, str]:
    if count < REQUESTS_MIN:
        return False, f"Taken back: {count} requests on a side are too few to tell. Verify for longer."
    if other.failed_share > one.failed_share + FAILED_MORE:
        return (
            False,
            f"Taken back: {other.failed_share:.0%} of the requests failed, {one.failed_share:.0%} before.",
        )
    if gain.low > 0:
        return True, "Kept: it is faster, beyond chance."
    if gain.high < 0:
        return False, "Taken back: it is slower, beyond chance."
    return False, "Taken back: no gain could be shown."
