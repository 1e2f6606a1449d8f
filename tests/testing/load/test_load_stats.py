"""Percentiles, means, shares and their intervals, held to known answers and to counting."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.testing.load.stats import (
    Estimate,
    Figure,
    binomial_ranks,
    block_bootstrap,
    mean,
    minimum_samples,
    percentile,
    proportion,
    shown,
    student,
)

MLPERF = {0.5: 11, 0.75: 24, 0.9: 64, 0.95: 130, 0.99: 662, 0.999: 6636}


@pytest.mark.parametrize(("share", "least"), MLPERF.items())
def test_fewest_samples_are_mlperfs(share: float, least: int) -> None:
    """The table of MLPerf's early stopping at 99 %."""
    assert minimum_samples(share) == least


@pytest.mark.parametrize(("count", "reliable"), [(661, False), (662, True)])
def test_a_percentile_without_samples_is_not_available(count: int, reliable: bool) -> None:
    """p99 of 661 samples prints as n/a, of 662 as a number."""
    figure = Figure(percentile(np.arange(count, dtype=np.float64), 0.99))

    assert figure.reliable is reliable
    assert (str(figure) == "n/a") is not reliable
    assert (f"{figure}ms" == "n/ams") is not reliable
    assert float(figure) == pytest.approx(0.99 * (count - 1))


def test_nothing_measured_is_nan() -> None:
    """A figure of no samples compares false with everything, and prints as n/a."""
    figure = Figure(Estimate())

    assert math.isnan(figure)
    assert not figure > 5
    assert not figure < 5
    assert (str(figure), f"{figure:.2f}") == ("n/a", "n/a")


def test_a_figure_is_a_float() -> None:
    """It computes as a float, and travels between processes whole."""
    figure = Figure(Estimate(12.34567, 11.0, 14.0, 900, reliable=True))
    again = pickle.loads(pickle.dumps(figure))

    assert figure * 2 == 24.69134
    assert f"{figure} {figure:.1f}" == "12.35 12.3"
    assert (again, again.low, again.high, again.samples, again.reliable) == (12.34567, 11.0, 14.0, 900, True)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.00123456, "0.001235"), (12.0, "12"), (98765.4, "98765"), (1.5, "1.5")]
)
def test_numbers_are_shown_to_four_digits(value: float, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(("count", "share"), [(20, 0.5), (100, 0.9), (130, 0.95), (700, 0.99), (3000, 0.5)])
def test_ranks_are_the_binomials(count: int, share: float) -> None:
    """The ranks are those of the exact binomial distribution, summed in whole numbers."""
    chances = (
        [math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)]
        if count < 1000
        else None
    )
    if chances is None:  # too large for floats: by logarithms
        chances = [
            math.exp(math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
                     + k * math.log(share) + (count - k) * math.log(1 - share))
            for k in range(count + 1)
        ]  # fmt: skip
    low, high = binomial_ranks(count, share)
    # the interval (low, high) misses to the left with P(X >= high), to the right with P(X < low)
    assert math.fsum(chances[:low]) <= 0.025 < math.fsum(chances[: low + 1])
    assert math.fsum(chances[high:]) <= 0.025 < math.fsum(chances[high - 1 :])


def test_interval_covers_the_truth() -> None:
    """Of 400 samples drawn anew, the 95 % interval of p90 holds the true value in 95 of 100 cases."""
    random = np.random.default_rng(5)
    truth = -math.log(0.1)
    held = 0
    for _ in range(1000):
        found = percentile(np.sort(random.exponential(size=400)), 0.9)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 930 <= held <= 985


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_lies_in_its_interval(values: list[float], share: float) -> None:
    found = percentile(np.sort(np.array(values)), share)
    assert found.value is not None
    assert found.low is None or found.low <= found.value * (1 + 1e-12)
    assert found.high is None or found.high >= found.value * (1 - 1e-12)


def test_mean_of_what_depends_on_its_neighbours() -> None:
    """Where neighbours move together the interval is wider than if they did not, and holds the mean."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        noise = random.normal(size=2000)
        values = np.empty(2000)
        values[0] = noise[0]
        for index in range(1, 2000):
            values[index] = 0.9 * values[index - 1] + noise[index]
        found = mean(values)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert held >= 260  # intervals that take them for independent hold it in about 100 of 300


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962), (1, 1000, 0.00018, 0.00565)],
)
def test_wilson(hits: int, count: int, low: float, high: float) -> None:
    """Wilson's interval at 95 %, from published tables."""
    found = proportion(hits, count)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize(
    ("freedom", "share", "value"),
    [
        (1, 0.975, 12.7062),
        (2, 0.975, 4.30265),
        (4, 0.95, 2.13185),
        (19, 0.975, 2.09302),
        (120, 0.975, 1.97993),
    ],
)
def test_student(freedom: int, share: float, value: float) -> None:
    """Quantiles of Student's t from the tables."""
    assert student(freedom, share) == pytest.approx(value, rel=1e-5)


def test_blocks_keep_what_neighbours_share() -> None:
    """The bootstrap is seeded, and wider where samples come in runs than where they are shuffled."""
    random = np.random.default_rng(2)
    runs = np.repeat(random.normal(size=100), 20)
    shuffled = random.permutation(runs)
    wide = block_bootstrap(runs, 0.5, draws=400, seed=1)

    assert np.array_equal(wide, block_bootstrap(runs, 0.5, draws=400, seed=1))
    assert wide.std() > 1.5 * block_bootstrap(shuffled, 0.5, draws=400, seed=1).std()
