"""The embedded model has too little to work with: slots, threads, or context. Pure."""

import math
import statistics

from slipstream.config.settings import Local
from slipstream.doctor.checks.small_cap import STRETCH
from slipstream.doctor.evidence import WAIT_SHOWN_NS, Evidence, Flow, ids
from slipstream.doctor.finding import SHARE_MIN, Finding, Fix, Point, RuledOut
from slipstream.doctor.service_model import fitted
from slipstream.models.local_process import threads_for
from slipstream.profiling.resources import is_strained

NAME = "starved_local"
LOCAL = "local"
"""What records call the embedded model's upstream."""

CONTEXT_CODE = "context_length_exceeded"
QUEUE_CODES = frozenset({"queue_full"})
TOO_LONG_SHARE = 0.05
CPU = "cpu"
"""What the USE table calls it."""

LONGER = (2, 4)
"""So many times the context, the first that holds most of what was refused."""

FITTING, FEW = 0.9, 0.1
"""A context that holds so much of it is enough; one that holds so little is no use."""

KNOWN_MIN = 12
"""Answered prompts whose length in tokens is known, to tell it of others by their size."""


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
    if share >= SHARE_MIN:
        return _slots(evidence, flows, waited, min(1.0, share))
    crowded = _crowded(evidence, slow) if _has_idle_cores(evidence) else 0.0
    if crowded >= SHARE_MIN:
        return _threads(evidence, flows, slow, crowded)
    return RuledOut(
        NAME,
        f"waiting for a slot is {share:.0%} of the slow requests' time; {len(too_long)} were too long",
    )


def _context(evidence: Evidence, too_long: list[Flow]) -> Finding:
    now = evidence.settings.models.local.context_tokens
    lengths = _lengths(evidence, too_long)
    points = [Point(f"{len(too_long)} requests were refused for their length", ids(too_long))]
    if lengths:
        middle = statistics.median(lengths)
        points.append(Point(f"by their size they have about {middle:,.0f} tokens in the middle"))
    return Finding(
        NAME,
        "context_tokens",
        f"The embedded model's context of {now} tokens is too short for what it is asked.",
        min(1.0, 2.0 * len(too_long) / len(evidence.flows)),
        tuple(points),
        (),
        (_longer(now, lengths),),
    )


def _longer(now: int, lengths: list[float]) -> Fix:
    """The first longer context that holds most of what was refused, as far as its length is known."""
    text = "give each slot a longer context; it takes memory"
    if not lengths:
        return Fix("models.local.context_tokens", str(now), str(LONGER[0] * now), text)
    contexts = [times * now for times in LONGER]
    after = next((each for each in contexts if _fitting(lengths, each) >= FITTING), contexts[-1])
    share = _fitting(lengths, after)
    if share < FEW:
        text = f"shorten what it is asked: even {after} tokens would hold {share:.0%} of what was refused"
        return Fix("", "", "", text, is_live=False)
    text = f"{text}; about {share:.0%} of those refused would fit"
    return Fix("models.local.context_tokens", str(now), str(after), text)


def _lengths(evidence: Evidence, too_long: list[Flow]) -> list[float]:
    """Tokens of refused prompts, by the bytes a token of the longest that were answered; empty if unknown."""
    known = [
        (each.record.request_bytes, each.record.prompt_tokens)
        for each in evidence.at(LOCAL)
        if each.record.outcome == "served" and each.record.prompt_tokens and each.record.request_bytes
    ]
    if len(known) < KNOWN_MIN:
        return []
    longest = sorted(known)[-max(KNOWN_MIN, len(known) // 4) :]
    per_token = statistics.median(size / tokens for size, tokens in longest)
    return [each.record.request_bytes / per_token for each in too_long if each.record.request_bytes]


def _fitting(lengths: list[float], context: int) -> float:
    """The share of prompts that a context holds."""
    return sum(each < context for each in lengths) / len(lengths) if lengths else 0.0


def _has_idle_cores(evidence: Evidence) -> bool:
    """Whether it was given fewer threads than it would take by itself."""
    threads = evidence.settings.models.local.threads
    return evidence.cores > 0 and 0 < threads < threads_for(evidence.cores)


def _crowded(evidence: Evidence, slow: list[Flow]) -> float:
    """The share of the slow time that requests take because others are decoded beside them."""
    model = fitted(evidence.answers.get(LOCAL, ()))
    if not model.is_known:
        return 0.0
    extra = 0.0
    for flow in slow:
        now, alone = model.expected(flow.asked()) or 0.0, model.expected(flow.asked(0.0)) or 0.0
        extra += min(max(0.0, now - alone), flow.parts.service / 1e9)
    return min(1.0, extra * 1e9 / evidence.slow_ns)


def _threads(evidence: Evidence, flows: list[Flow], slow: list[Flow], share: float) -> Finding:
    local = evidence.settings.models.local
    together = statistics.median(each.visit.mean_together for each in slow if each.visit)
    points = (
        Point(f"it computes on {local.threads} of {evidence.cores} cores"),
        Point(
            f"the slow requests had {together:.1f} there at once in the middle, and took longer for it:"
            f" {share:.0%} of their time, by what {len(flows)} answers show",
            ids(slow),
        ),
    )
    full = [row for row in evidence.resources if row.part == CPU and is_strained(row)]
    against = tuple(Point("the CPU is full now: there may be no core to spare") for _ in full)
    return Finding(
        NAME,
        "threads",
        f"The embedded model has too few threads: {local.threads} of {evidence.cores} cores.",
        share,
        points,
        against,
        (_more_threads(local),),
    )


def _more_threads(local: Local) -> Fix:
    return Fix("models.local.threads", str(local.threads), "0", "let it use the cores there are")


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
    if _has_idle_cores(evidence):
        points.append(Point(f"it computes on {local.threads} of {evidence.cores} cores"))
        fixes.append(_more_threads(local))
    return Finding(
        NAME,
        "slots",
        f"The embedded model has too few slots: {local.slots}.",
        share,
        tuple(points),
        (),
        tuple(fixes),
    )
