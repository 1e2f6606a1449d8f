"""A worker's event loop stands still: one piece of code holds it, and everybody waits. Pure.

Best evidence are the stalls that a watch in the worker has seen, which name the line. Without it there is
what a stall leaves in the records: time between the steps of requests that no step explains.
"""

import bisect
import statistics
from collections.abc import Sequence

from slipstream.doctor.evidence import AFTER_NS, UNEXPLAINED_NS_MIN, Evidence, Flow, ids
from slipstream.doctor.finding import SHARE_MIN, Finding, Fix, Point, RuledOut
from slipstream.doctor.times import gap_of

NAME = "blocked_loop"

TOUCH_NS = 5_000_000
"""Stalls that follow each other so closely are one."""

Span = tuple[int, int]
"""From when to when, on the wall clock."""

UNEXPLAINED_SHARE = 0.02
"""So many of the requests must have met one, where no watch has seen any."""


def check(evidence: Evidence) -> Finding | RuledOut:
    """Whether stalls account for the slow requests' time."""
    lost = [each for each in evidence.flows if each.parts.gateway >= UNEXPLAINED_NS_MIN]
    seen = merged([(int(each.wall_ns - each.seconds * 1e9), each.wall_ns) for each in evidence.stalls])
    gaps = merged([gap_of(each.record) for each in lost])
    share = _share(evidence, seen or gaps)
    if evidence.stalls and share >= SHARE_MIN:
        return _finding_seen(evidence, seen, share)
    if not evidence.stalls and len(lost) >= UNEXPLAINED_SHARE * len(evidence.flows) and share >= SHARE_MIN:
        return _finding_unseen(evidence, lost, share)
    if evidence.stalls:
        total = sum(each.seconds for each in evidence.stalls)
        count = len(evidence.stalls)
        said = "1 stall" if count == 1 else f"{count} stalls, together"
        return RuledOut(NAME, f"{said} {total:.1f} s long, makes {share:.0%} of the slow time")
    return RuledOut(
        NAME, f"no stall was seen, and gaps between our steps explain {share:.0%} of the slow time"
    )


def merged(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, those that all but touch as one: whoever waits, waits for all of them."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start - found[-1][1] <= TOUCH_NS:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def delay_ns(flow: Flow, stalls: Sequence[Span], ends: Sequence[int]) -> int:
    """How much longer a request took for the stalls: its own gap, and half of each that ended right before
    its first byte or its end was seen, which had come at some moment of it. `ends` are the stalls' ends.
    """
    record = flow.record
    total = flow.parts.gateway if flow.parts.gateway >= UNEXPLAINED_NS_MIN else 0
    for at in {record.first_byte_ns or 0, record.duration_ns}:
        wall_ns = record.arrived_wall_ns + at
        place = bisect.bisect_right(ends, wall_ns) - 1
        if place >= 0 and wall_ns - ends[place] <= AFTER_NS:
            start, end = stalls[place]
            total += max(0, end - max(start, record.arrived_wall_ns)) // 2
    return min(total, record.duration_ns)


def _share(evidence: Evidence, stalls: Sequence[Span]) -> float:
    ends = [end for _, end in stalls]
    return min(1.0, sum(delay_ns(each, stalls, ends) for each in evidence.slow) / evidence.slow_ns)


def _finding_seen(evidence: Evidence, spans: Sequence[Span], share: float) -> Finding:
    stalls = evidence.stalls
    by_place: dict[str, float] = {}
    for each in stalls:
        by_place[each.place] = by_place.get(each.place, 0.0) + each.seconds
    place = max(by_place, key=lambda name: by_place[name])
    ends = [end for _, end in spans]
    victims = [each for each in evidence.flows if delay_ns(each, spans, ends)]
    where = place or "code that could not be named"
    points = [
        Point(
            f"{len(stalls)} stalls, {statistics.median(each.seconds for each in stalls) * 1e3:.0f} ms in the"
            f" middle; {by_place[place] / sum(by_place.values()):.0%} of their time at {where}"
        ),
        Point(f"{len(victims)} of {len(evidence.flows)} requests were delayed by one", ids(victims)),
    ]
    return Finding(
        NAME,
        where,
        f"The event loop is held by {where}.",
        share,
        tuple(points),
        (),
        (_advice(where),),
    )


def _finding_unseen(evidence: Evidence, lost: Sequence[Flow], share: float) -> Finding:
    middle_ms = statistics.median(each.parts.gateway for each in lost) / 1e6
    return Finding(
        NAME,
        "code that could not be named",
        "Something holds the event loop.",
        share,
        (
            Point(
                f"{len(lost)} of {len(evidence.flows)} requests spent {middle_ms:.0f} ms in the middle"
                " between steps, where they do nothing",
                ids(lost),
            ),
        ),
        (Point("no watch has seen a stall: a worker that is short of CPU looks the same"),),
        (_advice("that code"),),
    )


def _advice(where: str) -> Fix:
    return Fix("", "", "", f"move {where} off the event loop: a thread, or smaller pieces", is_live=False)
