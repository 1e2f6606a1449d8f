"""What explains the slow calls: shares of steps that add up to 100 %, and the one that stands out.

Two views, each of the time on the critical path:

* *variance*: Cov(step, total) / Var(total). Summed over the steps that is Var(total) / Var(total): the
  shares add up to one exactly (VProfiler, EuroSys 2017, for one level).
* *gap*: how much more of a step there is in the calls at or beyond the p95 than in those around the
  median, in shares of the whole difference.

Ranking by mean time instead would name the call that is always long, however little it varies.
"""

import math
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

CALLS_MIN = 20
"""With fewer calls there is no tail to speak of: all of their time is explained instead."""
GAP_MIN = 0.25
"""The tail is a matter of its own where the p95 is so much above the median; else all calls are alike."""
SHARE_MIN = 0.3
"""A step stands out with at least this share …"""
LEAD_MIN = 1.2
"""… and so many times that of the next."""

ROUNDING = 1e-9
"""Parts that cancel out to so little of themselves have no sum but rounding."""

Vector = Mapping[str, float]
"""Time on the critical path by step, of one call."""


class TailShare(Struct, frozen=True):
    """What a step has to do with slow calls; shares of one, negative where it is shorter in slow calls."""

    step: str
    variance: float
    gap: float
    mean_share: float
    """Its part of the time of all calls."""


class Verdict(Struct, frozen=True):
    """The step that explains the slow calls, or why none does."""

    step: str | None
    reason: str
    share: float


def tail_shares(vectors: Sequence[Vector]) -> list[TailShare]:
    """The shares of every step, largest share of the variance first; empty without calls."""
    if not vectors:
        return []
    totals = [math.fsum(vector.values()) for vector in vectors]
    names = sorted({name for vector in vectors for name in vector})
    slow, usual = _groups(totals)
    variance = _covariances(vectors, totals, names)
    gaps = {
        name: _mean([vectors[at].get(name, 0.0) for at in slow])
        - _mean([vectors[at].get(name, 0.0) for at in usual])
        for name in names
    }
    all_time = math.fsum(totals)
    shares = [
        TailShare(
            name,
            _share(variance[name], _whole(variance.values())),
            _share(gaps[name], _whole(gaps.values())),
            _share(math.fsum(vector.get(name, 0.0) for vector in vectors), all_time),
        )
        for name in names
    ]
    return sorted(shares, key=lambda each: (-each.variance, -each.mean_share, each.step))


def verdict(vectors: Sequence[Vector]) -> Verdict:
    """The step that explains the p95; what all calls spend their time on where there is no tail."""
    if not vectors:
        return Verdict(None, "nothing recorded", 0.0)
    shares = tail_shares(vectors)
    if not shares:
        return Verdict(None, "no call took any time", 0.0)
    totals = sorted(math.fsum(vector.values()) for vector in vectors)
    median, p95 = totals[(len(totals) - 1) // 2], totals[math.ceil(0.95 * len(totals)) - 1]
    if len(vectors) >= CALLS_MIN and p95 > (1 + GAP_MIN) * median:
        ranked = sorted(((min(each.variance, 1.0) + each.gap) / 2, each.step) for each in shares)[::-1]
        said = (
            f"of what makes the slowest calls slow (p95 is {p95 / max(median, 1e-12):.1f} times the median)"
        )
    else:
        ranked = sorted((each.mean_share, each.step) for each in shares)[::-1]
        calls = "1 call is" if len(vectors) == 1 else f"{len(vectors)} calls are"
        few = f"; {calls} too few for a tail" if len(vectors) < CALLS_MIN else ""
        said = f"of the time of all calls{few}"
    share, step = ranked[0]
    following = ranked[1][0] if len(ranked) > 1 else 0.0
    if share < SHARE_MIN:
        return Verdict(None, f"no step has more than {share:.0%} {said}", share)
    if share < LEAD_MIN * following:
        return Verdict(
            None, f"`{step}` and `{ranked[1][1]}` share it: {share:.0%} and {following:.0%} {said}", share
        )
    return Verdict(step, f"{share:.0%} {said}", share)


def _groups(totals: Sequence[float]) -> tuple[list[int], list[int]]:
    """Which calls are at or beyond the p95, and which are around the median."""
    order = sorted(range(len(totals)), key=totals.__getitem__)
    count = len(order)
    slow = order[math.ceil(0.95 * count) - 1 :]
    usual = order[math.floor(0.45 * (count - 1)) : math.floor(0.55 * (count - 1)) + 1]
    return slow, usual


def _covariances(
    vectors: Sequence[Vector], totals: Sequence[float], names: Sequence[str]
) -> dict[str, float]:
    middle = _mean(totals)
    deviations = [total - middle for total in totals]
    return {
        name: math.fsum(vector.get(name, 0.0) * off for vector, off in zip(vectors, deviations, strict=True))
        for name in names
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _whole(parts: Collection[float]) -> float:
    """Their sum; 0 where they cancel out but for what rounding leaves, of which shares would mean nothing."""
    whole = math.fsum(parts)
    return whole if abs(whole) > ROUNDING * math.fsum(map(abs, parts)) else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if abs(whole) > 1e-12 else 0.0
