"""What users notice, in the guide's three groups, since when, and whom it hits. Pure; it names no cause."""

import bisect
import statistics
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from slipstream.core.use import UseRow
from slipstream.doctor.evidence import Evidence, Flow, ids
from slipstream.doctor.outcome import is_clients_fault
from slipstream.doctor.times import quantile
from slipstream.profiling.resources import is_strained

Group = Literal["slow response times", "high resource usage", "low throughput"]

TAIL_MIN = 4.0
"""A p95 of so many times the median is a symptom by itself: answers differ in length by less."""

QUEUE_SHARE_MIN = 0.15
FAILED_SHARE_MIN = 0.02
BUSY_MIN = 0.7
"""A worker's loop that is busy for so much of the time has nothing left for a burst."""

STALLED_MIN = 0.05
"""Event loops stand still for a moment on any busy machine; for so much of the time they must not."""

STRAINED_SHOWN = 4

GROUP_MIN = 10
"""Requests of somebody, and of the others, from which on they are compared."""

HIT_MIN = 1.5
"""Whoever is so much slower than the others is named."""

WHO: dict[str, Callable[[Flow], str]] = {
    "upstream": lambda flow: flow.record.upstream,
    "model": lambda flow: flow.record.model_asked,
    "tenant": lambda flow: flow.record.tenant,
    "route": lambda flow: flow.record.route,
}


class Symptom(Struct, frozen=True):
    """One symptom; `since_wall_ns` is None where it was there all the time."""

    group: Group
    text: str
    since_wall_ns: int | None
    hits: tuple[str, ...]
    requests: tuple[str, ...] = ()


def symptoms(evidence: Evidence) -> tuple[Symptom, ...]:
    """All that would be noticed; empty for a healthy server."""
    if not evidence.is_enough:
        return ()
    found = (*_slow(evidence), *_busy(evidence), *_strained(evidence), *_unserved(evidence))
    return tuple(found)


def _since(evidence: Evidence) -> int | None:
    return evidence.flows[0].record.arrived_wall_ns if evidence.onset is not None else None


def _slow(evidence: Evidence) -> list[Symptom]:
    judged = [flow for flow in evidence.flows if not is_clients_fault(flow.record)]
    times = [flow.record.duration_ns / 1e9 for flow in judged]
    p50, p95 = quantile(times, 0.5), quantile(times, 0.95)
    queue = sum(flow.parts.queue + flow.parts.waiting for flow in evidence.slow) / evidence.slow_ns
    said = ""
    if evidence.onset is not None:
        said = f"requests take {evidence.onset.ratio:.1f} times as long as before"
    elif p95 > TAIL_MIN * p50:
        said = f"one in twenty takes more than {p95 / max(p50, 1e-9):.1f} times as long as the middle one"
    elif queue > QUEUE_SHARE_MIN:
        said = f"the slow requests spend {queue:.0%} of their time waiting for their turn"
    if not said:
        return []
    text = f"{said}: p50 {p50:.2f} s, p95 {p95:.2f} s"
    return [Symptom("slow response times", text, _since(evidence), hit(judged), ids(evidence.slow))]


def _busy(evidence: Evidence) -> list[Symptom]:
    spent = [flow.record.gateway_cpu_ns for flow in evidence.flows if flow.record.gateway_cpu_ns is not None]
    found = []
    if spent:
        busy = statistics.fmean(spent) * len(evidence.flows) / 1e9 / evidence.seconds
        busy /= evidence.settings.server.workers
        if busy > BUSY_MIN:
            text = f"the gateway's own work fills {busy:.0%} of each worker's time"
            found.append(Symptom("high resource usage", text, _since(evidence), ()))
    stalled = sum(each.seconds for each in evidence.stalls) / evidence.seconds
    if stalled > STALLED_MIN:
        text = f"event loops stood still for {stalled:.0%} of the time"
        found.append(Symptom("high resource usage", text, _since(evidence), ()))
    return found


def _strained(evidence: Evidence) -> list[Symptom]:
    """What is nearly full now, or waited for."""
    told = [row for row in evidence.resources if is_strained(row)]
    if not told:
        return []
    text = f"now, at the time of asking: {', '.join(_strain(row) for row in told[:STRAINED_SHOWN])}"
    return [Symptom("high resource usage", text, None, ())]


def _strain(row: UseRow) -> str:
    used = f"{row.utilisation:.0%} used" if row.utilisation is not None else ""
    waits = ""
    if row.saturation and row.saturation_unit.startswith("%"):
        waits = f"work waits for it {row.saturation:.0f}{row.saturation_unit}"
    elif row.saturation:
        waits = f"{row.saturation:.3g} {row.saturation_unit}"
        waits += "" if row.saturation_unit.startswith("ms") else " waiting"
    return f"{row.part} ({', '.join(each for each in (used, waits) if each)})"


def _unserved(evidence: Evidence) -> list[Symptom]:
    lost = [
        flow
        for flow in evidence.flows
        if flow.record.outcome in {"failed", "refused"} and not is_clients_fault(flow.record)
    ]
    share = len(lost) / len(evidence.flows)
    if share < FAILED_SHARE_MIN:
        return []
    text = f"{share:.0%} of the requests got no answer"
    return [Symptom("low throughput", text, _since(evidence), hit(lost), ids(lost))]


def hit(flows: Sequence[Flow]) -> tuple[str, ...]:
    """Who is so much slower than the others that it is their symptom: `upstream b`, `tenant acme`."""
    found: list[str] = []
    everybody = sorted(flow.record.duration_ns / 1e9 for flow in flows)
    for what, name_of in WHO.items():
        groups: dict[str, list[float]] = {}
        for flow in flows:
            groups.setdefault(name_of(flow), []).append(flow.record.duration_ns / 1e9)
        for name, times in sorted(groups.items()):
            if not name or len(times) < GROUP_MIN or len(everybody) - len(times) < GROUP_MIN:
                continue
            times.sort()
            if statistics.median(times) > HIT_MIN * median_without(everybody, times):
                found.append(f"{what} {name}")
    return tuple(found[:8])


def median_without(everybody: Sequence[float], some: Sequence[float]) -> float:
    """The median of what is left of sorted values without some of them, sorted too; there must be any left.

    Found by halving, as there may be as many groups as requests and each has its others.
    """
    count = len(everybody) - len(some)

    def left_up_to(value: float) -> int:
        return bisect.bisect_right(everybody, value) - bisect.bisect_right(some, value)

    def at(place: int) -> float:
        return everybody[bisect.bisect_right(everybody, place, key=left_up_to)]

    return at(count // 2) if count % 2 else (at(count // 2 - 1) + at(count // 2)) / 2
