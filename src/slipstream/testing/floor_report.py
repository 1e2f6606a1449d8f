"""What a floor measurement says: how far above a bare proxy the gateway is, and which step takes the rest.

Pure: runs and records in, figures out. Times are microseconds, medians over rounds.
"""

import statistics
from collections.abc import Sequence

from msgspec import Struct

from slipstream.core.record import Record
from slipstream.testing.floor_driver import Run

STEPS = ("admit", "read", "select", "open", "first_byte", "relay")
"""The steps of an unstreamed request, in the order of the way; any other is shown behind them."""

HAND_OVERS = "between steps"
"""Inside the request's record, in no step: tasks started and woken."""

AROUND = "around the record"
"""Before and after the record: HTTP parsed and written, the client's side of the wire."""

NEAR_DRIVER = 0.8
"""A rate above this share of the direct one says more about the driver than about the target."""

RELIABLE_SPREAD = 0.25
"""A quotient whose rounds lie further apart than this share of their median is called rough."""


class Load(Struct, frozen=True):
    """What a target did under one load; medians over the rounds."""

    connections: int
    requests_per_second: float
    p50_us: float
    p99_us: float
    cpu_us_per_request: float | None
    """Of all its processes; None = not measured (direct)."""
    failed: int


class Target(Struct, frozen=True):
    """One of direct, floor and gateway."""

    name: str
    alone: Load
    """One connection."""
    loaded: Load
    """Many connections."""


class Part(Struct, frozen=True):
    """Where some of the gateway's own time goes, at one connection."""

    name: str
    us: float
    share: float
    """Of the gateway's own time."""


class FloorReport(Struct, frozen=True):
    """The answer of `slipstream doctor --floor`."""

    direct: Target
    floor: Target
    gateway: Target
    upstream_wait_us: float
    """How long the upstream takes as seen from the bare proxy's place; taken off both own times."""
    floor_own_us: float
    gateway_own_us: float
    times_floor: float | None
    """Own time of the gateway in own times of the bare proxy; None = the floor drowned in noise."""
    times_floor_cpu: float | None
    """CPU time a request of the gateway in CPU times of the bare proxy, under load."""
    rate_share: float
    """Requests a second of the gateway in those of the bare proxy, under load."""
    parts: list[Part]
    records: int
    """Requests whose records the parts were read from."""
    doubts: list[str]
    """What limits the trust in these figures, in sentences; empty = nothing was seen."""


class Measured(Struct, frozen=True):
    """One run of a target under one load."""

    run: Run
    connections: int
    cpu_seconds: float | None = None


def load_of(rounds: Sequence[Measured]) -> Load:
    """The medians of the rounds of one target under one load. Every round has answers."""
    cpu = [each.cpu_seconds / each.run.answered * 1e6 for each in rounds if each.cpu_seconds is not None]
    return Load(
        connections=rounds[0].connections,
        requests_per_second=statistics.median(each.run.answered / each.run.seconds for each in rounds),
        p50_us=statistics.median(percentile(each.run.latencies_ns, 0.5) / 1e3 for each in rounds),
        p99_us=statistics.median(percentile(each.run.latencies_ns, 0.99) / 1e3 for each in rounds),
        cpu_us_per_request=statistics.median(cpu) if cpu else None,
        failed=sum(each.run.failed for each in rounds),
    )


def percentile(values: Sequence[int], share: float) -> int:
    """The smallest of `values` that at least `share` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -int(-share * len(ordered) // 1)  # the ceiling
    return ordered[max(0, rank - 1)]


def spread(values: Sequence[float]) -> float:
    """Largest minus smallest, in medians."""
    return (max(values) - min(values)) / statistics.median(values)


def parts_of(records: Sequence[Record], *, client_us: float, wait_us: float) -> list[Part]:
    """The gateway's own time at one connection, by step.

    Args:
        records: of requests that were served one at a time.
        client_us: median time of such a request as its client saw it.
        wait_us: of that, the upstream's; it passes inside the step `open`.

    Medians do not add up exactly; what is left over stands in the last part, so that the sum is right.
    """
    times: dict[str, list[int]] = {name: [] for name in STEPS}
    between: list[int] = []
    for record in records:
        spent = dict.fromkeys(times, 0)
        for step in record.steps:
            spent[step.name] = spent.get(step.name, 0) + step.duration_ns
        for name, duration_ns in spent.items():
            times.setdefault(name, []).append(duration_ns)
        between.append(record.duration_ns - sum(spent.values()))
    if not between:
        return []
    us = {name: statistics.median(values) / 1e3 for name, values in times.items() if any(values)}
    if "open" in us:
        us["open"] = max(0.0, us["open"] - wait_us)
    us[HAND_OVERS] = max(0.0, statistics.median(between) / 1e3)
    own_us = client_us - wait_us
    us[AROUND] = max(0.0, own_us - sum(us.values()))
    total = sum(us.values())
    return [Part(name, value, value / total) for name, value in us.items()]


def report(
    runs: dict[str, dict[int, list[Measured]]],
    waits_us: Sequence[float],
    records: Sequence[Record],
    *,
    doubts: Sequence[str] = (),
) -> FloorReport:
    """Put it all together.

    Args:
        runs: by target (`direct`, `floor`, `gateway`), then by number of connections (one and many).
        waits_us: the upstream's median time as the bare proxy saw it, by round.
        records: what the gateway wrote down of the requests at one connection.
        doubts: what was noticed while measuring.
    """
    targets = {name: _target(name, loads) for name, loads in runs.items()}
    direct, floor, gateway = targets["direct"], targets["floor"], targets["gateway"]
    wait_us = statistics.median(waits_us)
    floor_own_us = floor.alone.p50_us - wait_us
    gateway_own_us = gateway.alone.p50_us - wait_us
    floor_cpu, gateway_cpu = floor.loaded.cpu_us_per_request, gateway.loaded.cpu_us_per_request
    return FloorReport(
        direct=direct,
        floor=floor,
        gateway=gateway,
        upstream_wait_us=wait_us,
        floor_own_us=floor_own_us,
        gateway_own_us=gateway_own_us,
        times_floor=gateway_own_us / floor_own_us if floor_own_us > 0 else None,
        times_floor_cpu=gateway_cpu / floor_cpu if gateway_cpu and floor_cpu else None,
        rate_share=gateway.loaded.requests_per_second / floor.loaded.requests_per_second,
        parts=parts_of(records, client_us=gateway.alone.p50_us, wait_us=wait_us),
        records=len(records),
        doubts=[*doubts, *_doubts(direct, floor, gateway), *_unsteady(runs)],
    )


def _target(name: str, loads: dict[int, list[Measured]]) -> Target:
    few, many = min(loads), max(loads)
    return Target(name, load_of(loads[few]), load_of(loads[many]))


def _doubts(direct: Target, *measured: Target) -> list[str]:
    found = [
        f"{target.name}: {load.failed} requests failed at {load.connections} connections."
        for target in (direct, *measured)
        for load in (target.alone, target.loaded)
        if load.failed
    ]
    found.extend(
        f"{target.name}: its rate is near that of driver and mock upstream themselves: it could do more."
        for target in measured
        if target.loaded.requests_per_second > NEAR_DRIVER * direct.loaded.requests_per_second
    )
    return found


def _unsteady(runs: dict[str, dict[int, list[Measured]]]) -> list[str]:
    found = []
    for name, loads in runs.items():
        middles = [float(percentile(each.run.latencies_ns, 0.5)) for each in loads[min(loads)]]
        if spread(middles) > RELIABLE_SPREAD:
            found.append(
                f"{name}: its rounds differ by {spread(middles):.0%}; the machine was busy with more."
            )
    return found
