"""The first split of all: do slow requests wait, or are they served slowly? Pure; it names no cause.

What makes slow requests slow is the difference between them and the usual ones, part by part; the shares
add up to one (`profiling.tail`). Means would name the upstream's work, which is always the longest part.
"""

import statistics
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from slipstream.doctor.evidence import RECORDS_MIN, Evidence, Flow
from slipstream.doctor.times import Parts, quantile
from slipstream.profiling.tail import tail_shares

Kind = Literal[
    "queueing",
    "slow service",
    "longer answers",
    "failed attempts",
    "the gateway itself",
    "no one thing",
]

MOST = 0.5
"""A kind accounts for at least so much of what makes the slow requests slow."""

LONGER_MIN = 1.5
"""Answers of so many times the tokens explain a longer service, unless each token takes longer too."""

PARTS = {
    "queue": "waiting for a slot or a connection",
    "waiting": "waiting for an upstream, or before asking again",
    "failed": "attempts that failed",
    "first": "the upstream, up to the first byte",
    "rest": "the rest of the answer",
    "gateway": "the gateway itself",
}
"""The parts of a request's time, for people."""


class PartShare(Struct, frozen=True):
    """One part of the requests' time.

    Attributes:
        part: its name in `PARTS`.
        share: of all the time of the slow requests, 0 to 1.
        gap: of what makes the slow requests slower than the usual ones; adds up to 1, negative where it is
            shorter in slow requests.
        variance: of the variance of all requests' times; adds up to 1.
    """

    part: str
    share: float
    gap: float
    variance: float


class Split(Struct, frozen=True):
    """Where the time of the slow requests goes; `text` is one sentence."""

    kind: Kind
    text: str
    parts: tuple[PartShare, ...]


def split(evidence: Evidence) -> Split | None:
    """The split of what reached an upstream in a window; None where that is too little."""
    flows = [flow for flow in evidence.flows if flow.visit is not None]
    slow = [flow for flow in evidence.slow if flow.visit is not None]
    if not evidence.is_enough or len(flows) < RECORDS_MIN or not slow:
        return None
    slow_ns = max(1, sum(flow.record.duration_ns for flow in slow))
    shares = {each.step: each for each in tail_shares([_vector(flow.parts) for flow in flows])}
    parts = tuple(
        PartShare(
            name,
            sum(getattr(flow.parts, name) for flow in slow) / slow_ns,
            shares[name].gap,
            shares[name].variance,
        )
        for name in PARTS
    )
    kind = _kind({each.part: each.gap for each in parts}, flows, slow)
    return Split(kind, _text(kind, parts, flows, slow), parts)


def _vector(parts: Parts) -> dict[str, float]:
    return {name: float(getattr(parts, name)) for name in PARTS}


def _kind(gaps: dict[str, float], flows: Sequence[Flow], slow: Sequence[Flow]) -> Kind:
    kinds: dict[Kind, float] = {
        "queueing": gaps["queue"] + gaps["waiting"],
        "slow service": gaps["first"] + gaps["rest"],
        "failed attempts": gaps["failed"],
        "the gateway itself": gaps["gateway"],
    }
    kind = max(kinds, key=kinds.__getitem__)
    if kinds[kind] < MOST:
        return "no one thing"
    if kind == "slow service" and gaps["rest"] > gaps["first"] and _longer(flows, slow) >= LONGER_MIN:
        usual, late = _pace(_usual(flows)), _pace(slow)
        if late <= usual * LONGER_MIN:
            return "longer answers"
    return kind


def _text(kind: Kind, parts: Sequence[PartShare], flows: Sequence[Flow], slow: Sequence[Flow]) -> str:
    usual = _usual(flows)
    ratio = _middle(slow) / max(_middle(usual), 1e-9)
    waits = sum(each.share for each in parts if each.part in {"queue", "waiting"})
    waited = f"{waits:.0%} of the slow requests' time is waiting"
    served = f"being served takes {ratio:.2g} times as long as for the usual ones"
    match kind:
        case "queueing":
            return f"queueing: {waited}; {served}"
        case "slow service":
            return f"slow service: {served}; {waited}"
        case "longer answers":
            longer = _longer(flows, slow)
            return f"longer answers: {longer:.2g} times the usual tokens, at the same pace; {waited}"
        case "failed attempts":
            failed = next(each.share for each in parts if each.part == "failed")
            return f"failed attempts: {failed:.0%} of the slow requests' time; {waited}"
        case "the gateway itself":
            own = next(each.share for each in parts if each.part == "gateway")
            return f"the gateway itself: {own:.0%} of the slow requests' time; {served}"
        case _:
            return f"no one thing: {waited}; {served}"


def _usual(flows: Sequence[Flow]) -> list[Flow]:
    """Those around the median."""
    times = [flow.record.duration_ns for flow in flows]
    low, high = quantile(times, 0.4), quantile(times, 0.6)
    return [flow for flow in flows if low <= flow.record.duration_ns <= high]


def _middle(flows: Sequence[Flow]) -> float:
    return statistics.median(flow.parts.service / 1e9 for flow in flows) if flows else 0.0


def _longer(flows: Sequence[Flow], slow: Sequence[Flow]) -> float:
    """How many times the tokens of the usual answers those of the slow ones have."""
    return _tokens(slow) / max(_tokens(_usual(flows)), 1.0)


def _tokens(flows: Sequence[Flow]) -> float:
    return statistics.median(flow.record.output_tokens or 0 for flow in flows) if flows else 0.0


def _pace(flows: Sequence[Flow]) -> float:
    """Seconds a token after the first, in the middle."""
    paces = [flow.parts.rest / 1e9 / max(1, flow.record.output_tokens or 1) for flow in flows]
    return statistics.median(paces) if paces else 0.0
