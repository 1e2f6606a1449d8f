"""What users notice, in the guide's three groups, since when, and whom it hits. Pure; it names no cause."""

import bisect
import statistics
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from slipstream.core.use import UseRow
from slipstream.doctor.evidence import Evidence, Flow, ids
from slipstream.doctor.onset import spell
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

SHARED = frozenset({"cpu", "memory"})
"""Resources whose use is told of this server alone, and whose waiting may be told of the whole machine."""

LITTLE_USE = 0.3
"""Of one of them: with less it is others that this machine's work waits for."""

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
    """One symptom.

    `since_wall_ns` is None where it was there all the time, or where only now is known (`is_now`);
    `until_wall_ns` is None where it has not ended.
    """

    group: Group
    text: str
    since_wall_ns: int | None
    hits: tuple[str, ...]
    requests: tuple[str, ...] = ()
    until_wall_ns: int | None = None
    is_now: bool = False

    @property
    def is_met(self) -> bool:
        """Whether it is one of the requests, which users meet, and not of a resource alone."""
        return self.group != "high resource usage"


def symptoms(evidence: Evidence, *, is_caused: bool = False) -> tuple[Symptom, ...]:
    """All that would be noticed; empty for a healthy server.

    `is_caused`: a cause is known that accounts for the time of the slow requests. Then they are a symptom,
    even if they are not so slow that they would be one by themselves.
    """
    if not evidence.is_enough:
        return ()
    unserved = _unserved(evidence)
    slow = _slow(evidence, is_told=is_caused and not unserved)
    strained = _strained(evidence, is_met=bool(slow or unserved))
    return (*slow, *_busy(evidence), *strained, *unserved)


def _since(evidence: Evidence) -> int | None:
    return evidence.flows[0].record.arrived_wall_ns if evidence.onset is not None else None


def _slow(evidence: Evidence, *, is_told: bool) -> list[Symptom]:
    judged = [flow for flow in evidence.flows if not is_clients_fault(flow.record)]
    times = [flow.record.duration_ns / 1e9 for flow in judged]
    p50, p95 = quantile(times, 0.5), quantile(times, 0.95)
    figures = f"p50 {p50:.2f} s, p95 {p95:.2f} s"
    tail = f"one in twenty takes more than {p95 / max(p50, 1e-9):.1f} times as long as the middle one"
    queue = sum(flow.parts.queue + flow.parts.waiting for flow in evidence.slow) / evidence.slow_ns
    said = ""
    if evidence.onset is not None:
        said = f"requests take {evidence.onset.ratio:.1f} times as long as before"
    elif (over := _spell(judged)) is not None:
        return [over]
    elif p95 > TAIL_MIN * p50:
        said = tail
    elif queue > QUEUE_SHARE_MIN:
        said = f"the slow requests spend {queue:.0%} of their time waiting for their turn"
    elif is_told:
        said = tail
    if not said:
        return []
    text = f"{said}: {figures}"
    return [Symptom("slow response times", text, _since(evidence), hit(judged), ids(evidence.slow))]


def _spell(judged: Sequence[Flow]) -> Symptom | None:
    """Slow for a while, and well again: of all requests, or else of what one upstream takes."""
    found = [(spell([flow.record.duration_ns / 1e9 for flow in judged]), judged, "requests took")]
    if found[0][0] is None:
        for upstream in sorted({flow.record.upstream for flow in judged if flow.visit is not None}):
            there = [flow for flow in judged if flow.record.upstream == upstream]
            over = spell([flow.parts.service / 1e9 for flow in there])
            found.append((over, there, f"answers of {upstream} took"))
    best, flows, what = max(found, key=lambda each: each[0].t if each[0] is not None else 0.0)
    if best is None:
        return None
    since_ns = flows[best.first].record.arrived_wall_ns
    until_ns = flows[best.last].record.arrived_wall_ns
    met = [flow for flow in judged if since_ns <= flow.record.arrived_wall_ns <= until_ns]
    times = [flow.record.duration_ns / 1e9 for flow in met]
    text = (
        f"for a while {what} {best.ratio:.1f} times as long as before and after:"
        f" p50 {quantile(times, 0.5):.2f} s, p95 {quantile(times, 0.95):.2f} s of those that came then"
    )
    return Symptom("slow response times", text, since_ns, hit(met), ids(met), until_wall_ns=until_ns)


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


def _strained(evidence: Evidence, *, is_met: bool) -> list[Symptom]:
    """What is nearly full now, or waited for.

    Where others make work wait on this machine, that is told beside requests that are slow (`is_met`); it is
    no symptom of those that are well.
    """
    told = [row for row in evidence.resources if is_strained(row) and (is_met or not _is_by_others(row))]
    if not told:
        return []
    text = f"now, at the time of asking: {', '.join(_strain(row) for row in told[:STRAINED_SHOWN])}"
    return [Symptom("high resource usage", text, None, (), is_now=True)]


def _is_by_others(row: UseRow) -> bool:
    return row.part in SHARED and row.utilisation is not None and row.utilisation < LITTLE_USE


def _strain(row: UseRow) -> str:
    used = f"{row.utilisation:.0%} used" if row.utilisation is not None else ""
    if _is_by_others(row):
        return (
            f"{row.part} ({used} by this server; others on this machine make work wait for it"
            f" {row.saturation or 0.0:.0f}{row.saturation_unit})"
        )
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
