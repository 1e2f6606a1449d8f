"""The embedded model has too little to work with: slots, threads, or context. Pure."""

import math
import os
import statistics

from slipstream.doctor.checks.small_cap import STRETCH
from slipstream.doctor.evidence import WAIT_SHOWN_NS, Evidence, Flow, ids
from slipstream.doctor.finding import SHARE_MIN, Finding, Fix, Point, RuledOut

NAME = "starved_local"
LOCAL = "local"
"""What records call the embedded model's upstream."""

CONTEXT_CODE = "context_length_exceeded"
QUEUE_CODES = frozenset({"queue_full"})
TOO_LONG_SHARE = 0.05


def check(evidence: Evidence) -> Finding | RuledOut:
    """What the embedded model lacks, if it is used at all."""
    flows = evidence.at(LOCAL)
    if not flows:
        return RuledOut(NAME, "the embedded model was not asked")
    too_long = [each for each in flows if each.record.error_code == CONTEXT_CODE]
    if len(too_long) >= TOO_LONG_SHARE * len(evidence.flows):
        return _context(evidence, too_long)
    waited = [each for each in flows if each.parts.queue >= WAIT_SHOWN_NS]
    refused = [each for each in flows if each.record.error_code in QUEUE_CODES]
    slow = [each for each in evidence.slow if each.record.upstream == LOCAL]
    share = sum(each.parts.queue for each in slow) / evidence.slow_ns
    share = max(share, len(refused) / len(evidence.flows))
    if share < SHARE_MIN:
        return RuledOut(
            NAME,
            f"waiting for a slot is {share:.0%} of the slow requests' time; {len(too_long)} were too long",
        )
    return _slots(evidence, flows, waited, min(1.0, share))


def _context(evidence: Evidence, too_long: list[Flow]) -> Finding:
    now = evidence.settings.models.local.context_tokens
    return Finding(
        NAME,
        "context_tokens",
        f"The embedded model's context of {now} tokens is too short for what it is asked.",
        min(1.0, 2.0 * len(too_long) / len(evidence.flows)),
        (Point(f"{len(too_long)} requests were refused for their length", ids(too_long)),),
        (),
        (
            Fix(
                "models.local.context_tokens",
                str(now),
                str(2 * now),
                "give each slot a longer context; it takes memory",
            ),
        ),
    )


def _slots(evidence: Evidence, flows: list[Flow], waited: list[Flow], share: float) -> Finding:
    local = evidence.settings.models.local
    wait_ms = statistics.median(each.parts.queue for each in waited) / 1e6 if waited else 0.0
    points = [
        Point(
            f"{len(waited)} of {len(flows)} requests waited for one of {local.slots} slots,"
            f" {wait_ms:.0f} ms in the middle",
            ids(waited),
        )
    ]
    fixes = []
    if local.slots < 64:
        after = min(64, max(local.slots + 1, math.floor(local.slots * STRETCH)))
        fixes.append(
            Fix(
                "models.local.slots",
                str(local.slots),
                str(after),
                "decode more requests at once",
            )
        )
    cores = os.cpu_count() or 1
    if 0 < local.threads < cores:
        points.append(Point(f"it computes on {local.threads} of {cores} cores"))
        fixes.append(
            Fix(
                "models.local.threads",
                str(local.threads),
                "0",
                "let it use the cores there are",
            )
        )
    return Finding(
        NAME,
        "slots",
        f"The embedded model has too few slots: {local.slots}.",
        share,
        tuple(points),
        (),
        tuple(fixes),
    )
