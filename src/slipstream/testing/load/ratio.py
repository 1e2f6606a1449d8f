"""Whether B is slower than A: the ratio of two targets measured in turn, and a verdict for CI.

Every round measures both, so that what the machine does in the meantime hits both; the interval comes from
the spread of the rounds' log-ratios (Student's t on paired differences).
"""

import math
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from slipstream.testing.load.stats import student

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Z90 = 1.6448536269514722
CONFIDENCE = 0.95
"""One-sided: a verdict is wrong in one run of twenty at most."""


class Ratio(Struct, frozen=True):
    """B / A of one figure, its 90 % interval, and what follows from it."""

    figure: str
    ratio: float
    low: float
    high: float
    rounds: int
    tolerance: float
    """Share by which B may be worse."""
    verdict: Verdict


def ratio(
    pairs: Sequence[tuple[float, float]], *, figure: str, tolerance: float, noise: float = 0.0
) -> Ratio:
    """Judge rounds of (A, B), for a figure where more is worse.

    FAIL where the whole interval is beyond `1 + tolerance`, PASS where none of it is, else INCONCLUSIVE.

    Args:
        pairs: one round each, both positive, at least three.
        figure: its name, kept in the answer.
        tolerance: 0.1 = B may be 10 % worse.
        noise: standard deviation of one round's log-ratio that sampling alone makes. Few rounds may agree
            by luck: the interval is never narrower than this allows.
    """
    logs = [math.log(b / a) for a, b in pairs]
    count = len(logs)
    assert count >= 3, "a spread needs rounds"
    middle = math.fsum(logs) / count
    spread = math.sqrt(math.fsum((each - middle) ** 2 for each in logs) / (count - 1))
    half = max(student(count - 1, CONFIDENCE) * spread, Z90 * noise) / math.sqrt(count)
    edge = math.log1p(tolerance)
    verdict: Verdict = "INCONCLUSIVE"
    if middle - half > edge:
        verdict = "FAIL"
    elif middle + half <= edge:
        verdict = "PASS"
    return Ratio(
        figure, math.exp(middle), math.exp(middle - half), math.exp(middle + half), count, tolerance, verdict
    )
