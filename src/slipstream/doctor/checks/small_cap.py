"""Requests wait for a connection to an upstream that answers as quickly as ever: its cap is too small. Pure.

The queueing side of the first split of all: waits grow while the service time stays flat. A wait counts only
while as many requests as may be were there; a wait without that is something else.
"""

import math
import statistics

from slipstream.config import names
from slipstream.doctor.evidence import WAIT_SHOWN_NS, Evidence, Flow, ids
from slipstream.doctor.finding import SHARE_MIN, Finding, Fix, Point, RuledOut
from slipstream.doctor.refusals import POOL_CODES

NAME = "small_cap"

WAITED_SHARE = 0.05
"""So many of an upstream's requests waited, at least."""

STRETCH = 1.5
"""A prediction goes no further beyond what was seen than this, so a fix does not either."""


def check(evidence: Evidence) -> Finding | RuledOut:
    """The upstream whose connections are waited for most, if any are."""
    found: list[Finding] = []
    waits: list[str] = []
    for upstream in evidence.settings.models.upstreams:
        flows = evidence.at(upstream)
        waited = [each for each in flows if each.parts.queue >= WAIT_SHOWN_NS or _is_refused(each)]
        if not flows:
            continue
        waits.append(f"{upstream} {len(waited) / len(flows):.0%}")
        if len(waited) >= WAITED_SHARE * len(flows):
            found.append(_finding(evidence, upstream, flows, waited))
    best = max(found, key=lambda each: each.share, default=None)
    if best is None:
        return RuledOut(
            NAME, f"hardly a request waits for a connection ({', '.join(waits) or 'no upstream'})"
        )
    if best.share < SHARE_MIN:
        return RuledOut(
            NAME, f"the waits for {best.subject} are {best.share:.0%} of the slow requests' time, no more"
        )
    return best


def _is_refused(flow: Flow) -> bool:
    return flow.record.error_code in POOL_CODES


def _finding(evidence: Evidence, upstream: str, flows: list[Flow], waited: list[Flow]) -> Finding:
    settings = evidence.settings
    workers = settings.server.workers
    cap = settings.models.upstreams[upstream].connections
    slow = [each for each in evidence.slow if each.record.upstream == upstream]
    refused = [each for each in waited if _is_refused(each)]
    share = sum(each.parts.queue for each in slow) / evidence.slow_ns
    share = max(share, len(refused) / len(evidence.flows))
    most = max((each.visit.together for each in flows if each.visit), default=0)
    wait_ms = statistics.median(each.parts.queue for each in waited) / 1e6
    points = [
        Point(
            f"{len(waited)} of {len(flows)} requests to {upstream} waited for a connection,"
            f" {wait_ms:.0f} ms in the middle",
            ids(waited),
        ),
        Point(f"at most {most} were there at once, where {cap * workers} connections may be"),
    ]
    if refused:
        points.append(Point(f"{len(refused)} were turned away for want of a connection", ids(refused)))
    against = _against(waited, flows)
    return Finding(
        NAME,
        upstream,
        f"{upstream} has too few connections: {cap} a worker.",
        min(1.0, share),
        tuple(points),
        against,
        (_fix(upstream, cap, _demand(waited, cap * workers), workers),),
    )


def _against(waited: list[Flow], flows: list[Flow]) -> tuple[Point, ...]:
    """Whether the service time grew with the waits: then more at once may only move the queue."""
    calm = [each.parts.service for each in flows if each.parts.queue < WAIT_SHOWN_NS]
    busy = [each.parts.service for each in waited]
    if len(calm) < 8 or len(busy) < 8:
        return ()
    ratio = statistics.median(busy) / max(1.0, statistics.median(calm))
    if ratio < 1.3:
        return ()
    return (Point(f"those that waited were also served {ratio:.2g} times as slowly: it may be full itself"),)


def _demand(waited: list[Flow], cap: int) -> float:
    """How many would be there at once if nobody waited: Little's law on the time that was waited."""
    queue = sum(each.parts.queue for each in waited)
    first = min(each.record.arrived_wall_ns for each in waited)
    last = max(each.record.arrived_wall_ns + each.record.duration_ns for each in waited)
    return cap + queue / max(1, last - first)


def _fix(upstream: str, cap: int, demand: float, workers: int) -> Fix:
    after = max(cap + 1, math.floor(cap * STRETCH))
    text = f"let more requests be at {upstream} at once"
    if after * workers < demand:
        text += "; it will want more still, but beyond half as many again nothing was seen: look again then"
    return Fix(names.written(("models", "upstreams", upstream, "connections")), str(cap), str(after), text)
