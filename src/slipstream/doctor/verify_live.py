"""Whether a fix did what was promised, told by traffic that is served anyway, with and without it in turn.

It is split by time, not by request: connections, queues and upstreams are shared, so that requests with the
fix would change what those without it meet at the same moment (a switchback experiment: Bojinov, Simchi-Levi
and Zhao, "Design and Analysis of Switchback Experiments", Management Science 2023). The beginning of each
stretch is left out, while what came before it is still under way.

What changes from one stretch to the next by itself hits all requests of a stretch: the stretch is the unit.
So a fix is kept only where signs that are flipped by chance, round by round, seldom give as much (a
randomisation test), and the requests of both sides agree.
"""

import asyncio
import itertools
import math
import operator
import statistics
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from slipstream.core import clock
from slipstream.core.record import Record
from slipstream.doctor.outcome import Took, is_clients_fault, outcome, took
from slipstream.doctor.verify import FAILED_MORE, REQUESTS_MIN, Switch, Verified, appended, judged, turns

ROUNDS_MIN, ROUNDS_MAX = 6, 12
"""With six rounds chance alone gives the strongest result once in 64 times."""

STRETCH_SECONDS = 8.0
"""How long stretches are before there are more of them."""

WASHOUT_SHARE = 0.2
"""Of each stretch: requests that came so soon after a switch met what the other side had left."""

CHANCE_MAX = 0.05
"""A gain that chance gives more often is none."""

STOP_REQUESTS = 20
"""With so many requests on each side, what fails far more with the fix ends it at once."""

WORSE_MAX = 2.0
"""So does a p95 of so many times that without it, told by requests enough."""

LAST = 3
"""Stretches that are looked at for harm, the latest: both sides are among them."""

LATE_SECONDS_MAX = 120.0
"""So long, at most, the last requests are waited for: those that take longest must not be missing."""

LOOK_SECONDS = 1.0

Recorded = Callable[[int, int], Awaitable[Sequence[Record]]]
"""The records of the requests that arrived since then and before then (wall clock, ns) and are over."""

InFlight = Callable[[], Awaitable[float]]
"""For how many seconds the oldest request under way has been so; 0 where there is none."""


class Stretch(Struct, frozen=True):
    """A time in which the fix was in force, or was not; wall clock, ns."""

    is_fixed: bool
    since_ns: int
    until_ns: int


class Met(Struct, frozen=True):
    """What clients met in a stretch; `refused` are those that had themselves to blame, as it seems."""

    is_fixed: bool
    requests: list[Took]
    refused: int = 0


async def compare_live(
    seconds: float,
    switch: Switch,
    recorded: Recorded,
    oldest: InFlight,
    told: Callable[[str], None] = lambda _said: None,
) -> Verified:
    """Watch the traffic for `seconds` in all, half of them with the fix; less where it does harm."""
    rounds = max(ROUNDS_MIN, min(ROUNDS_MAX, int(seconds / (2 * STRETCH_SECONDS))))
    stretches: list[Stretch] = []
    each_seconds = seconds / (2 * rounds)
    for is_fixed in turns(rounds):
        await switch(is_fixed)
        begun_ns = clock.wall_ns()
        await asyncio.sleep(each_seconds)
        washed_ns = begun_ns + int(each_seconds * WASHOUT_SHARE * 1e9)
        stretches.append(Stretch(is_fixed, washed_ns, clock.wall_ns()))
        told(f"stretch {len(stretches)} of {2 * rounds}: {'with' if is_fixed else 'without'} it")
        if is_fixed and (harm := _harm(await _met(recorded, stretches[-LAST:]))):
            return harm
    await _until_over(stretches[-1].until_ns, oldest)
    met = await _met(recorded, stretches)
    done = judged_by_rounds([(each.is_fixed, each.requests) for each in met])
    if done.is_kept and (said := _refused_more(met)):
        return replace(done, is_kept=False, verdict=f"Taken back: {said}.")
    return done


async def _met(recorded: Recorded, stretches: Sequence[Stretch]) -> list[Met]:
    """What clients met in each stretch, by when they came; each is read by itself, however many came."""
    found = []
    for each in stretches:
        records = await recorded(each.since_ns, each.until_ns)
        came = sorted(
            (record for record in records if each.since_ns <= record.arrived_wall_ns < each.until_ns),
            key=lambda record: record.arrived_wall_ns,
        )
        found.append(Met(each.is_fixed, took(came), sum(map(is_clients_fault, came))))
    return found


def _refused_more(met: Sequence[Met]) -> str:
    """What is to be said where more is refused with the fix: then that is not the clients' fault."""
    shares = []
    for side in (False, True):
        refused = sum(each.refused for each in met if each.is_fixed is side)
        count = refused + sum(len(each.requests) for each in met if each.is_fixed is side)
        if count < STOP_REQUESTS:
            return ""
        shares.append(refused / count)
    without, with_fix = shares
    if with_fix <= without + 2 * FAILED_MORE:
        return ""
    return f"{with_fix:.0%} of the requests were refused (4xx) with it, {without:.0%} without"


def _sides(met: Sequence[tuple[bool, list[Took]]]) -> tuple[list[Took], list[Took]]:
    found: tuple[list[Took], list[Took]] = [], []
    for is_fixed, requests in met:
        appended(found[is_fixed], requests)
    return found


def _harm(met: Sequence[Met]) -> Verified | None:
    """The verdict where there is no doubt already that the fix does harm: users meet it."""
    without, with_fix = _sides([(each.is_fixed, each.requests) for each in met])
    refused = _refused_more(met)
    if not refused and min(len(without), len(with_fix)) < STOP_REQUESTS:
        return None
    one, other = outcome(without), outcome(with_fix)
    if refused:
        said = refused
    elif other.failed_share > one.failed_share + 2 * FAILED_MORE:
        said = f"{other.failed_share:.0%} of the requests failed with it, {one.failed_share:.0%} without"
    elif other.p95 > WORSE_MAX * one.p95 and min(len(without), len(with_fix)) >= REQUESTS_MIN:
        said = f"with it the p95 is {other.p95:.2f} s, without it {one.p95:.2f} s"
    else:
        return None
    done = judged(without, with_fix, len(met) // 2)
    return replace(done, is_kept=False, verdict=f"Taken back before the time was over: {said}.")


def judged_by_rounds(met: Sequence[tuple[bool, list[Took]]], *, seed: int = 0) -> Verified:
    """The verdict on stretches that took turns, two a round."""
    done = judged(*_sides(met), len(met) // 2, seed=seed)
    if not done.is_kept:
        return done
    changes = []
    for first, second in zip(met[::2], met[1::2], strict=True):
        without, with_fix = (first, second) if second[0] else (second, first)
        if without[1] and with_fix[1]:
            ratio = outcome(with_fix[1]).p95 / max(outcome(without[1]).p95, 1e-9)
            changes.append(math.log(max(ratio, 1e-9)))
    share = by_chance(changes)
    if share <= CHANCE_MAX:
        return done
    verdict = (
        f"Taken back: stretches differ as much by themselves ({share:.0%} by chance). Verify for longer."
    )
    return replace(done, is_kept=False, verdict=verdict)


def by_chance(changes: Sequence[float]) -> float:
    """How often the mean of the changes would be as low were their signs drawn by chance; exact."""
    if not changes:
        return 1.0
    mean = statistics.fmean(changes)
    signs = list(itertools.product((1.0, -1.0), repeat=len(changes)))
    as_low = 0
    for drawn in signs:
        as_low += math.fsum(map(operator.mul, changes, drawn)) / len(changes) <= mean + 1e-12
    return as_low / len(signs)


async def _until_over(until_ns: int, oldest: InFlight) -> None:
    """Wait until all that came before then is over, within bounds."""
    while True:
        passed = (clock.wall_ns() - until_ns) / 1e9
        if await oldest() < passed or passed > LATE_SECONDS_MAX:
            return
        await asyncio.sleep(LOOK_SECONDS)
