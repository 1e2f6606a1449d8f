"""What samples say and how far it can be trusted: percentiles, means and shares, each with its interval.

A figure from too few samples is not made up: it is marked as not reliable and prints as `n/a`.
"""

import math
from typing import Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Z95 = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""
MISTAKE = 0.01
"""Chance that MLPerf's early stopping allows for a percentile that is too low."""
BATCHES = 20
"""Batches of consecutive samples whose means stand for independent ones."""


class Estimate(Struct, frozen=True):
    """A figure with its 95 % interval, in the unit of what was measured; None = not known."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    samples: int = 0
    reliable: bool = False
    """Whether there were enough samples to say it."""


class Figure(float):
    """An estimate as a float: compares and computes as one, and prints as `n/a` where it is not reliable.

    A figure without any sample is NaN. `.low`, `.high` are the 95 % interval, `.samples` the count.
    """

    __slots__ = ("high", "low", "reliable", "samples")
    low: float | None
    high: float | None
    samples: int
    reliable: bool

    def __new__(cls, estimate: Estimate) -> Self:
        """The float of an estimate."""
        made = super().__new__(cls, math.nan if estimate.value is None else estimate.value)
        made.low, made.high = estimate.low, estimate.high
        made.samples, made.reliable = estimate.samples, estimate.reliable
        return made

    def __str__(self) -> str:
        return shown(float(self)) if self.reliable else "n/a"

    def __repr__(self) -> str:
        return str(self)

    def __format__(self, form: str) -> str:
        if not form:
            return str(self)
        return float.__format__(self, form) if self.reliable else "n/a"

    def __reduce__(self) -> tuple[object, ...]:
        value = None if math.isnan(self) else float(self)
        return (Figure, (Estimate(value, self.low, self.high, self.samples, self.reliable),))


def shown(value: float) -> str:
    """A number to four significant digits, without an exponent."""
    if not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(digits, 9)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def minimum_samples(share: float) -> int:
    """Fewest samples for a percentile (`share` 0.99 for p99) to be more than luck.

    The rule of MLPerf's early stopping: at least one sample beyond the percentile must be expected to be
    spared with 99 % confidence. About 6.64 / (1 - share); 662 for p99.
    """
    over = max(share, 1 - share)
    least, most = 1, 16
    while _luck(most, over) > MISTAKE:
        least, most = most, most * 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if _luck(middle, over) > MISTAKE else (least, middle)
    return most


def _luck(count: int, share: float) -> float:
    """Chance that of `count` samples at most one lies beyond the percentile."""
    return float(share**count + count * (1 - share) * share ** (count - 1))


def percentile(ordered: Floats, share: float) -> Estimate:
    """A percentile of ascending samples, linearly interpolated, and its interval from order statistics.

    The interval holds for any distribution of independent samples (binomial ranks).
    """
    count = len(ordered)
    if count == 0:
        return Estimate()
    value = float(np.quantile(ordered, share))
    low, high = binomial_ranks(count, share)
    return Estimate(
        value,
        min(value, float(ordered[low - 1])) if low >= 1 else None,
        max(value, float(ordered[high - 1])) if high <= count else None,
        count,
        count >= minimum_samples(share),
    )


def binomial_ranks(count: int, share: float) -> tuple[int, int]:
    """Ranks (from 1) between which a percentile lies with 95 % confidence.

    0 or `count + 1` where no sample is far enough out to bound it.
    """
    spread = 10 * math.sqrt(count * share * (1 - share)) + 10
    first, last = max(0, math.floor(count * share - spread)), min(count, math.ceil(count * share + spread))
    ks = np.arange(first, last, dtype=np.float64)
    steps = np.log((count - ks) / (ks + 1)) + math.log(share / (1 - share))
    logs = np.concatenate(([0.0], np.cumsum(steps)))
    chances = np.exp(logs - logs.max())
    below = np.cumsum(chances / chances.sum())  # P(X <= k): k samples at most lie under the percentile
    low = first + int(np.searchsorted(below, 0.025, side="right"))
    high = first + int(np.searchsorted(below, 0.975, side="left")) + 1
    return low, high


def mean(values: Floats) -> Estimate:
    """The mean of samples in order of time; neighbours may depend on each other (batch means)."""
    count = len(values)
    if count == 0:
        return Estimate()
    value = float(values.mean())
    if count < 8:
        return Estimate(value, samples=count, reliable=count > 1)
    batches = min(BATCHES, count)
    edges = np.linspace(0, count, batches + 1).astype(np.int64)
    means = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    half = student(batches - 1) * float(means.std(ddof=1)) / math.sqrt(batches)
    return Estimate(value, value - half, value + half, count, reliable=True)


def proportion(hits: int, count: int, z: float = Z95) -> Estimate:
    """A share 0..1 and its Wilson interval, which stays inside 0..1 and is honest for small counts."""
    if count == 0:
        return Estimate()
    share = hits / count
    bottom = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / bottom
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / bottom
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), count, reliable=True)


def student(freedom: int, share: float = 0.975) -> float:
    """A quantile of Student's t, by bisection of its distribution (Abramowitz & Stegun 26.7.3 and .4)."""
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_below(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def _student_below(value: float, freedom: int) -> float:
    """P(T <= value) for value >= 0: a finite sum for a whole number of degrees of freedom."""
    angle = math.atan2(value, math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    term = total = 1.0 if freedom % 2 == 0 else cosine
    for k in range(2 if freedom % 2 == 0 else 3, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if freedom % 2 == 0:
        within = sine * total
    else:
        within = 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))
    return 0.5 + within / 2


def block_bootstrap(values: Floats, share: float, *, draws: int, seed: int) -> Floats:
    """Percentiles of `draws` resamples made of blocks of consecutive samples, about n^(1/3) in length.

    Kuensch's moving blocks: what neighbours have in common stays in.
    """
    count = len(values)
    length = max(1, round(count ** (1 / 3)))
    blocks = math.ceil(count / length)
    random = np.random.default_rng(seed)
    out = np.empty(draws)
    for draw in range(draws):
        starts = random.integers(0, count - length + 1, blocks)
        taken = values[(starts[:, None] + np.arange(length)).ravel()[:count]]
        out[draw] = np.quantile(taken, share)
    return out
