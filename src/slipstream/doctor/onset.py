"""When requests became slow: the one moment that parts a window best, or none. Pure.

The window is cut into bins of equal numbers of requests; at each border the mean of the bins' medians
before is held against that after it, by Welch's t on their logarithms (the idea of E-divisive with a t-test
in Hunter and Otava, by one split). Bins, as single requests are not independent of their neighbours; an
effect size beside the significance, as in a busy service everything is significant.
"""

import itertools
import math
import statistics
from collections.abc import Sequence

from msgspec import Struct

BINS = 24
PER_BIN_MIN = 8
EDGE = 3
"""Bins on either side of a change, at least."""

RATIO_MIN = 1.35
"""Smaller changes of the median are no onset."""

T_MIN = 5.0


class Onset(Struct, frozen=True):
    """From request number `index` on it was `ratio` times as slow as before."""

    index: int
    ratio: float
    t: float


def onset(durations: Sequence[float]) -> Onset | None:
    """The change for the worse in durations that stand in order of arrival; None where there is none."""
    bins = min(BINS, len(durations) // PER_BIN_MIN)
    if bins < 2 * EDGE:
        return None
    borders = [round(at * len(durations) / bins) for at in range(bins + 1)]
    middles = [
        math.log(max(1e-9, statistics.median(durations[low:high])))
        for low, high in itertools.pairwise(borders)
    ]
    at = max(range(EDGE, bins - EDGE + 1), key=lambda place: _between(middles, place))
    before, after = middles[:at], middles[at:]
    step = statistics.fmean(after) - statistics.fmean(before)
    spread = math.sqrt(
        statistics.variance(before) / len(before) + statistics.variance(after) / len(after) + 1e-6
    )
    found = Onset(borders[at], math.exp(step), step / spread)
    return found if found.ratio >= RATIO_MIN and found.t >= T_MIN else None


def _between(values: Sequence[float], place: int) -> float:
    """How much of the variance lies between what is before and after a place, where that one is slower."""
    before, after = values[:place], values[place:]
    step = statistics.fmean(after) - statistics.fmean(before)
    return len(before) * len(after) * max(0.0, step) ** 2
