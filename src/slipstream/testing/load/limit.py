"""What a search for a system's limit found, in words: limit, knee, ceiling, what held it there."""

import statistics
from collections.abc import Sequence

from msgspec import Struct

from slipstream.testing.load.search import Probe, bracket, law_of
from slipstream.testing.load.usl import Fit

CPU_FULL = 0.9
KNEE_SHARE = 0.6
"""Up to this share of the knee a system counts as not loaded."""
CAUTIONS_MAX = 3
PLATEAU = 1.05
"""Throughput beyond the limit that is no more than this times the limit's is a ceiling."""


class Limit(Struct, frozen=True, kw_only=True):
    """Where a system's limit is. Rates per second, times in ms."""

    target: str
    users: int | None
    """Most concurrent users of which the wanted share is served well; None where not even one is."""
    beyond: int | None
    """Fewest that were too many; None where the search ended before the limit."""
    throughput: float | None
    """Answers per second at the limit."""
    goodput: float | None
    objectives: tuple[str, ...]
    wanted_share: float
    base_ms: float | None
    """Mean service time far below the knee."""
    ceiling: float | None
    """Throughput that more users do not raise."""
    knee_users: float | None
    """Users at which the unloaded line meets the ceiling: about what is served at the same time."""
    law: Fit | None
    """sigma = share that serialises, kappa = what pairs cost each other; see docs/load-testing.md."""
    resource: str
    """What was saturated, as far as can be seen from here."""
    error_users: int | None
    """Fewest users with more errors than the error threshold; None where it was not passed."""
    error_threshold: float
    """In percent."""
    probes: tuple[Probe, ...]
    soak: Probe | None = None
    """At 0.9 x the limit, for longer."""
    confirmed: bool | None = None
    """Whether the soak was good; None where there was none."""
    seconds: float = 0.0
    time_scale: float = 1.0
    stopped: str = "finished"
    started_wall_ns: int = 0
    id: str = ""
    """Its name among the stored ones; empty = not stored."""
    cautions: tuple[str, ...] = ()


def unloaded_ms(probes: Sequence[Probe]) -> float | None:
    """Mean service time far below the knee: the middle of the probes there, for one may be unlucky."""
    means = [(each.users, each.service_ms_mean) for each in probes if each.service_ms_mean]
    if not means:
        return None
    first = means[0][1]
    knee = max(each.throughput for each in probes) * first / 1000
    return statistics.median([mean for users, mean in means if users <= max(1, KNEE_SHARE * knee)] or [first])


def ceiling_of(probes: Sequence[Probe], base_ms: float | None) -> float | None:
    """Throughput of the probes beyond the knee, in the middle; None where none of them is."""
    rates = [each.throughput for each in probes if each.throughput > 0]
    if not rates or not base_ms:
        return None
    highest = max(rates)
    knee = highest * base_ms / 1000
    flat = [each.throughput for each in probes if each.users >= knee and each.throughput >= highest / PLATEAU]
    return statistics.median(flat) if flat else highest


def conclude(
    probes: Sequence[Probe],
    *,
    target: str,
    objectives: tuple[str, ...],
    wanted: float,
    error_threshold: float,
) -> Limit:
    """What the probes of a search say."""
    good, bad = bracket(probes)
    ordered = sorted(probes, key=lambda each: each.users)
    at = next((each for each in ordered if each.users == good), None)
    base = unloaded_ms(ordered)
    ceiling = ceiling_of(ordered, base)
    knee = ceiling * base / 1000 if ceiling and base else None
    over = [each for each in ordered if each.error_percent > error_threshold]
    return Limit(
        target=target,
        users=good or None,
        beyond=bad,
        throughput=at.throughput if at else None,
        goodput=at.goodput if at else None,
        objectives=objectives,
        wanted_share=wanted,
        base_ms=base,
        ceiling=ceiling,
        knee_users=knee,
        law=law_of(ordered),
        resource=resource(ordered, good, knee),
        error_users=over[0].users if over else None,
        error_threshold=error_threshold,
        probes=tuple(ordered),
        cautions=cautions_of(ordered),
    )


def cautions_of(probes: Sequence[Probe]) -> tuple[str, ...]:
    """What makes the figures of a search doubtful."""
    said = [
        f"with {each.users} users the client was the bottleneck: {each.invalid[0]}"
        for each in probes
        if each.invalid
    ][:CAUTIONS_MAX]
    disturbed = [str(each.users) for each in probes if each.disturbed]
    if disturbed:
        said.append(f"probes were disturbed and repeated: {', '.join(disturbed)} users")
    foreign = [
        each
        for each in probes
        if (each.cpu_share or 0.0) > CPU_FULL and each.busiest_cores is not None and each.busiest_cores < 0.5
    ]
    if foreign:
        said.append(
            "this machine was busy with other work than the target: figures are lower than they could be"
        )
    return tuple(said)


def resource(probes: Sequence[Probe], limit_users: int, knee: float | None) -> str:
    """What held the system at its limit, from the probes at and beyond it."""
    if not probes:
        return "not known"
    beyond = [each for each in probes if each.users > limit_users]
    if not beyond:
        return "nothing: the limit was not reached"
    first = beyond[0]
    if first.invalid:
        return f"the client: {first.invalid[0]}"
    if first.error_percent > 100 * (1 - CPU_FULL) / 2 and first.error_kinds:
        kind = max(first.error_kinds, key=lambda each: first.error_kinds[each])
        return f"errors: {kind}, {first.error_kinds[kind]} of {first.count} requests"
    if first.busiest_cores is not None and first.busiest_cores > CPU_FULL:
        return f"the target's CPU: its busiest process uses {first.busiest_cores:.1f} cores"
    at = next((each for each in probes if each.users == limit_users), None)
    if knee and (at is None or max(each.throughput for each in beyond) <= PLATEAU * at.throughput):
        return f"a queue: about {max(1, round(knee))} requests are served at a time, the rest waits"
    if first.cpu_share is not None and first.cpu_share > CPU_FULL:
        return f"this machine's CPU: {first.cpu_share:.0%} busy"
    return "not seen from here: response time grew, throughput too"
