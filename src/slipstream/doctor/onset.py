"""When requests became slow: the one moment that parts a window best, or none. Pure.

The window is cut into bins of equal numbers of requests; at each border the mean of the bins' medians
before is held against that after it, by Welch's t on their logarithms (the idea of E-divisive with a t-test
in Hunter and Otava, by one split). Bins, as single requests are not independent of their neighbours; an
effect size beside the significance, as in a busy service everything is significant. A spell that was over
again is found likewise, by two borders.
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


SPELL_RATIO_MIN = 1.5
SPELL_T_MIN = 7.0
"""Of a spell: it is the best of many more pairs of borders, so chance gives higher ones."""


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
    middles = _middles(durations, borders)
    at = max(range(EDGE, bins - EDGE + 1), key=lambda place: _between(middles, place))
    before, after = middles[:at], middles[at:]
    step = statistics.fmean(after) - statistics.fmean(before)
    spread = math.sqrt(
        statistics.variance(before) / len(before) + statistics.variance(after) / len(after) + 1e-6
    )
    found = Onset(borders[at], math.exp(step), step / spread)
    return found if found.ratio >= RATIO_MIN and found.t >= T_MIN else None


class Spell(Struct, frozen=True):
    """From request number `first` up to `last` it was `ratio` times as slow as before and after."""

    first: int
    last: int
    ratio: float
    t: float


def spell(durations: Sequence[float]) -> Spell | None:
    """The stretch of durations, in order of arrival, that was slow and is over; None where there is none.

    The spread of both sides is taken together: that of a few bins alone is small by chance (Student's t).
    """
    bins = min(BINS, len(durations) // PER_BIN_MIN)
    best: Spell | None = None
    borders = [round(at * len(durations) / max(1, bins)) for at in range(bins + 1)]
    middles = _middles(durations, borders)
    for low in range(bins):
        for high in range(low + EDGE, bins - EDGE + 1):
            inside, outside = middles[low:high], middles[:low] + middles[high:]
            if len(inside) > len(outside):
                break
            step = statistics.fmean(inside) - statistics.fmean(outside)
            if step < math.log(SPELL_RATIO_MIN):
                continue
            within = _squares(inside) + _squares(outside)
            share = 1.0 / len(inside) + 1.0 / len(outside)
            t = step / math.sqrt(within / (bins - 2) * share + 1e-6)
            if t >= SPELL_T_MIN and (best is None or t > best.t):
                best = Spell(borders[low], borders[high] - 1, math.exp(step), t)
    return best


def _squares(values: Sequence[float]) -> float:
    middle = statistics.fmean(values)
    return math.fsum((value - middle) ** 2 for value in values)


def _middles(durations: Sequence[float], borders: Sequence[int]) -> list[float]:
    return [
        math.log(max(1e-9, statistics.median(durations[low:high])))
        for low, high in itertools.pairwise(borders)
    ]


def _between(values: Sequence[float], place: int) -> float:
    """How much of the variance lies between what is before and after a place, where that one is slower."""
    before, after = values[:place], values[place:]
    step = statistics.fmean(after) - statistics.fmean(before)
    return len(before) * len(after) * max(0.0, step) ** 2
