"""The Universal Scalability Law, fitted: what a system loses to waiting in line and to agreeing with itself.

X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)), after N. Gunther. sigma is the share of the work
that is serial (a lock, one event loop), kappa what each pair of users costs (coherence, contention).
"""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipstream.testing.load.stats import Z95, Estimate, student

Floats = NDArray[np.float64]

ROUNDS_MAX = 200
DRAWS = 2000
"""Draws of the parameters from which the peak's interval is read."""

NOTHING = 1e-9
"""A kappa that costs no more than this share at the most users measured is rounding."""


class Fit(Struct, frozen=True):
    """A fitted law. Intervals are 95 %; there are none without more than three points."""

    rate: Estimate
    """lambda: throughput of one user, in the unit of the throughputs."""
    sigma: Estimate
    kappa: Estimate
    peak_users: Estimate
    """Where throughput is highest; no value where it only rises (kappa = 0)."""
    peak_throughput: Estimate
    """Throughput there; where it only rises, its limit lambda / sigma."""
    r_squared: float

    def at(self, users: float) -> float:
        """Throughput that the law says for a number of users."""
        rate, sigma, kappa = _value(self.rate), _value(self.sigma), _value(self.kappa)
        return rate * users / (1 + sigma * (users - 1) + kappa * users * (users - 1))


def fit(users: Sequence[float], throughputs: Sequence[float]) -> Fit | None:
    """Fit the law to measured points by least squares (Levenberg-Marquardt, sigma and kappa >= 0).

    Args:
        users: concurrent users, each >= 1.
        throughputs: what was measured with them, each > 0.

    None where there are fewer than three different numbers of users.
    """
    if len(set(users)) < 3 or min(users) < 1 or min(throughputs) <= 0:
        return None
    numbers = np.asarray(users, dtype=np.float64)
    measured = np.asarray(throughputs, dtype=np.float64)
    found = _marquardt(numbers, measured, _start(numbers, measured))
    residuals = measured - _law(numbers, found)
    squares = float(residuals @ residuals)
    total = float(((measured - measured.mean()) ** 2).sum())
    freedom = len(numbers) - 3
    covariance = _covariance(numbers, found, squares / freedom) if freedom > 0 else None
    return _told(found, covariance, freedom, 1 - squares / total if total else 1.0)


def _law(numbers: Floats, parameters: Floats) -> Floats:
    rate, sigma, kappa = parameters
    out: Floats = rate * numbers / (1 + sigma * (numbers - 1) + kappa * numbers * (numbers - 1))
    return out


def _slopes(numbers: Floats, parameters: Floats) -> Floats:
    """Derivatives of the law by its three parameters, one row a point."""
    rate, sigma, kappa = parameters
    below = 1 + sigma * (numbers - 1) + kappa * numbers * (numbers - 1)
    out: Floats = np.stack(
        [
            numbers / below,
            -rate * numbers * (numbers - 1) / below**2,
            -rate * numbers**2 * (numbers - 1) / below**2,
        ],
        axis=1,
    )
    return out


def _start(numbers: Floats, measured: Floats) -> Floats:
    """Gunther's transform: N / X is linear in (N - 1) and N (N - 1)."""
    columns = np.stack([np.ones_like(numbers), numbers - 1, numbers * (numbers - 1)], axis=1)
    first, second, third = np.linalg.lstsq(columns, numbers / measured, rcond=None)[0]
    if first <= 0:
        return np.array([float((measured / numbers).max()), 0.01, 1e-6])
    return np.array([1 / first, max(0.0, second / first), max(0.0, third / first)])


def _marquardt(numbers: Floats, measured: Floats, parameters: Floats) -> Floats:
    damping = 1e-3
    residuals: Floats = measured - _law(numbers, parameters)
    error = float(residuals @ residuals)
    for _ in range(ROUNDS_MAX):
        slopes = _slopes(numbers, parameters)
        # a parameter at its bound that would only leave the allowed side stays out of this step
        pull = slopes.T @ residuals
        free = np.array([True, parameters[1] > 0 or pull[1] > 0, parameters[2] > 0 or pull[2] > 0])
        normal = slopes[:, free].T @ slopes[:, free]
        damped = normal + damping * np.diag(np.diag(normal))
        step = np.zeros(3)
        step[free] = np.linalg.solve(damped, pull[free])
        tried: Floats = np.maximum(parameters + step, [1e-12, 0.0, 0.0])
        left: Floats = measured - _law(numbers, tried)
        new = float(left @ left)
        if new <= error:
            done = error - new <= 1e-14 * error
            parameters = tried
            residuals, error, damping = left, new, max(damping / 10, 1e-12)
            if done:
                break
        else:
            damping *= 10
            if damping > 1e12:
                break
    largest = float(numbers.max())
    if parameters[2] * largest * largest < NOTHING:
        parameters[2] = 0.0
    return parameters


def _covariance(numbers: Floats, parameters: Floats, variance: float) -> Floats:
    slopes = _slopes(numbers, parameters)
    out: Floats = (np.linalg.pinv(slopes.T @ slopes) * variance).astype(np.float64)
    return out


def _told(found: Floats, covariance: Floats | None, freedom: int, r_squared: float) -> Fit:
    spread = student(freedom) if freedom > 0 else 0.0
    each = []
    for index, least in enumerate((0.0, 0.0, 0.0)):
        value = float(found[index])
        if covariance is None:
            each.append(Estimate(value, samples=freedom + 3))
            continue
        half = spread * math.sqrt(max(0.0, float(covariance[index, index])))
        each.append(Estimate(value, max(least, value - half), value + half, freedom + 3, reliable=True))
    users, throughput = _peak(found, covariance, freedom)
    return Fit(each[0], each[1], each[2], users, throughput, r_squared)


def _peak(found: Floats, covariance: Floats | None, freedom: int) -> tuple[Estimate, Estimate]:
    """Where the law is highest and how high, with intervals read from draws of its parameters."""
    users, height = _summit(found)
    if covariance is None:
        return Estimate(users), Estimate(height)
    random = np.random.default_rng(0)
    noise = random.multivariate_normal(np.zeros(3), covariance, DRAWS, method="svd")
    drawn = np.maximum(found + noise * student(freedom) / Z95, [1e-12, 0.0, 0.0])
    return _interval(users, _peaks(drawn), freedom), _interval(height, _heights(drawn), freedom)


def _peaks(drawn: Floats) -> Floats:
    """Users at the peak of each row of parameters; infinite where throughput only rises."""
    _, sigma, kappa = drawn.T
    falls = kappa > 0
    ratio = np.divide(np.maximum(1 - sigma, 0.0), kappa, out=np.full(len(drawn), np.inf), where=falls)
    out: Floats = np.maximum(np.sqrt(ratio), 1.0)
    return out


def _heights(drawn: Floats) -> Floats:
    """Throughput at the peak of each row, or the limit towards which it rises."""
    rate, sigma, kappa = drawn.T
    users = _peaks(drawn)
    at = np.where(np.isfinite(users), users, 1.0)
    peak = rate * at / (1 + sigma * (at - 1) + kappa * at * (at - 1))
    limit = np.divide(rate, sigma, out=np.full(len(drawn), np.inf), where=sigma > 0)
    out: Floats = np.where(np.isfinite(users), peak, limit)
    return out


def _summit(parameters: Floats) -> tuple[float | None, float | None]:
    rate, sigma, kappa = (float(each) for each in parameters)
    if kappa > 0 and sigma < 1:
        users = math.sqrt((1 - sigma) / kappa)
        if users >= 1:
            return users, float(_law(np.array([users]), parameters)[0])
    if kappa > 0:
        return 1.0, rate
    return None, rate / sigma if sigma > 0 else None


def _interval(value: float | None, drawn: Floats, freedom: int) -> Estimate:
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return Estimate(
        value,
        float(low) if math.isfinite(low) else None,
        float(high) if math.isfinite(high) else None,
        freedom + 3,
        reliable=value is not None,
    )


def _value(estimate: Estimate) -> float:
    assert estimate.value is not None, "a fit knows its parameters"
    return estimate.value
