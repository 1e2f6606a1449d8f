"""Whether a fix did what was promised, told by traffic that is served anyway, with and without it in turn.

It is split by time, not by request: connections, queues and upstreams are shared, so that requests with the
fix would change what those without it meet at the same moment (a switchback experiment: Bojinov, Simchi-Levi
and Zhao, "Design and Analysis of Switchback Experiments", Management Science 2023). The beginning of each
stretch is left out, while what came before it is still under way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from slipstream.core import clock
from slipstream.core.record import Record
from slipstream.doctor.outcome import Took, took
from slipstream.doctor.verify import ROUNDS, Switch, Verified, appended, judged, turns

WASHOUT_SHARE = 0.2
"""Of each stretch: requests that came so soon after a switch met what the other side had left."""

LATE_SECONDS_MAX = 120.0
"""So long, at most, the last requests are waited for: those that take longest must not be missing."""

LOOK_SECONDS = 1.0

Recorded = Callable[[int], Awaitable[Sequence[Record]]]
"""The records of the requests that arrived since then (wall clock, ns) and are over."""

InFlight = Callable[[], Awaitable[float]]
"""For how many seconds the oldest request under way has been so; 0 where there is none."""


class Stretch(Struct, frozen=True):
    """A time in which the fix was in force, or was not; wall clock, ns."""

    is_fixed: bool
    since_ns: int
    until_ns: int


async def compare_live(
    seconds: float,
    switch: Switch,
    recorded: Recorded,
    oldest: InFlight,
    told: Callable[[str], None] = lambda _said: None,
) -> Verified:
    """Watch the traffic for `seconds` in all, half of them with the fix."""
    stretches: list[Stretch] = []
    each_seconds = seconds / (2 * ROUNDS)
    for is_fixed in turns(ROUNDS):
        await switch(is_fixed)
        begun_ns = clock.wall_ns()
        await asyncio.sleep(each_seconds)
        washed_ns = begun_ns + int(each_seconds * WASHOUT_SHARE * 1e9)
        stretches.append(Stretch(is_fixed, washed_ns, clock.wall_ns()))
        told(f"stretch {len(stretches)} of {2 * ROUNDS}: {'with' if is_fixed else 'without'} it")
    await _until_over(stretches[-1].until_ns, oldest)
    return judged(*sides(await recorded(stretches[0].since_ns), stretches), ROUNDS)


def sides(records: Sequence[Record], stretches: Sequence[Stretch]) -> tuple[list[Took], list[Took]]:
    """What clients met without the fix and with it, by when they came."""
    found: tuple[list[Took], list[Took]] = [], []
    for stretch in stretches:
        came = sorted(
            (each for each in records if stretch.since_ns <= each.arrived_wall_ns < stretch.until_ns),
            key=lambda each: each.arrived_wall_ns,
        )
        appended(found[stretch.is_fixed], took(came))
    return found


async def _until_over(until_ns: int, oldest: InFlight) -> None:
    """Wait until all that came before then is over, within bounds."""
    while True:
        passed = (clock.wall_ns() - until_ns) / 1e9
        if await oldest() < passed or passed > LATE_SECONDS_MAX:
            return
        await asyncio.sleep(LOOK_SECONDS)
