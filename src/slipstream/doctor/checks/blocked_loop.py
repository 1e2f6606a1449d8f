"""A worker's event loop stands still: one piece of code holds it, and everybody waits. Pure.

Best evidence are the stalls that a watch in the worker has seen, which name the line. Without it there is
what a stall leaves in the records: time between the steps of requests that no step explains.
"""

import bisect
import statistics
from collections.abc import Sequence

from slipstream.doctor.evidence import UNEXPLAINED_NS_MIN, Evidence, Flow, StallSeen, ids
from slipstream.doctor.finding import SHARE_MIN, Finding, Fix, Point, RuledOut

NAME = "blocked_loop"

UNEXPLAINED_SHARE = 0.02
"""So many of the requests must have met one, where no watch has seen any."""


def check(evidence: Evidence) -> Finding | RuledOut:
    """Whether stalls account for the slow requests' time."""
    stalls = sorted(evidence.stalls, key=lambda each: each.wall_ns)
    seen = _overlap_share(evidence.slow, stalls, evidence.slow_ns)
    lost = [each for each in evidence.flows if each.parts.gateway >= UNEXPLAINED_NS_MIN]
    lost_share = (
        sum(each.parts.gateway for each in evidence.slow if each.parts.gateway >= UNEXPLAINED_NS_MIN)
        / evidence.slow_ns
    )
    if stalls and seen >= SHARE_MIN:
        return _finding_seen(evidence, stalls, seen)
    if len(lost) >= UNEXPLAINED_SHARE * len(evidence.flows) and lost_share >= SHARE_MIN:
        return _finding_unseen(evidence, lost, lost_share)
    if stalls:
        total = sum(each.seconds for each in stalls)
        return RuledOut(
            NAME, f"{len(stalls)} stalls of {total:.1f} s in all explain {seen:.0%} of the slow time"
        )
    return RuledOut(NAME, f"no stall was seen, and {lost_share:.0%} of the slow time lies between our steps")


def overlap_ns(flow: Flow, stalls: Sequence[StallSeen], ends: Sequence[int]) -> int:
    """How much of a request's time fell into stalls. `ends` are the stalls' ends, in order."""
    start = flow.record.arrived_wall_ns
    end = start + flow.record.duration_ns
    total = 0
    for each in stalls[bisect.bisect_right(ends, start) :]:
        begin = each.wall_ns - int(each.seconds * 1e9)
        if begin >= end:
            break
        total += max(0, min(end, each.wall_ns) - max(start, begin))
    return total


def _overlap_share(flows: Sequence[Flow], stalls: Sequence[StallSeen], whole_ns: int) -> float:
    ends = [each.wall_ns for each in stalls]
    return min(1.0, sum(overlap_ns(each, stalls, ends) for each in flows) / whole_ns)


def _finding_seen(evidence: Evidence, stalls: Sequence[StallSeen], share: float) -> Finding:
    by_place: dict[str, float] = {}
    for each in stalls:
        by_place[each.place] = by_place.get(each.place, 0.0) + each.seconds
    place = max(by_place, key=lambda name: by_place[name])
    ends = [each.wall_ns for each in stalls]
    victims = [each for each in evidence.flows if overlap_ns(each, stalls, ends)]
    where = place or "code that could not be named"
    points = [
        Point(
            f"{len(stalls)} stalls, {statistics.median(each.seconds for each in stalls) * 1e3:.0f} ms in the"
            f" middle; {by_place[place] / sum(by_place.values()):.0%} of their time at {where}"
        ),
        Point(f"{len(victims)} of {len(evidence.flows)} requests met one", ids(victims)),
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
