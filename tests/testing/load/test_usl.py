"""The scalability law, fitted: published data, laws that are known, and points that say little."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.testing.load.usl import fit

SPECSDM91 = ([1, 18, 36, 72, 108, 144, 216], [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2])


def law(users: np.ndarray, rate: float, sigma: float, kappa: float) -> np.ndarray:
    return rate * users / (1 + sigma * (users - 1) + kappa * users * (users - 1))


def test_the_published_fit() -> None:
    """R's package `usl` says of SPEC SDM91: gamma 89.995, alpha 0.02773, beta 0.0001044, peak at 96.5."""
    found = fit(*SPECSDM91)
    assert found is not None
    assert found.rate.value == pytest.approx(89.995, rel=1e-4)
    assert found.sigma.value == pytest.approx(0.02773, rel=1e-3)
    assert found.kappa.value == pytest.approx(1.044e-4, rel=1e-3)
    assert found.peak_users.value == pytest.approx(96.52, rel=1e-3)
    assert found.peak_throughput.value == pytest.approx(1883.9, rel=1e-3)
    assert found.r_squared == pytest.approx(0.9896, abs=1e-3)
    for each in (found.rate, found.sigma, found.kappa, found.peak_users):
        assert each.low is not None
        assert each.high is not None
        assert each.low < each.value < each.high


@settings(max_examples=60)
@given(st.floats(1, 1e4), st.floats(0, 0.3), st.floats(0, 0.01))
def test_a_law_without_noise_is_found(rate: float, sigma: float, kappa: float) -> None:
    """What made the points is what the fit says."""
    users = np.array([1, 2, 4, 8, 16, 32, 64, 128.0])
    found = fit(list(users), list(law(users, rate, sigma, kappa)))
    assert found is not None
    assert found.rate.value == pytest.approx(rate, rel=1e-4)
    assert found.sigma.value == pytest.approx(sigma, abs=1e-5)
    assert found.kappa.value == pytest.approx(kappa, abs=1e-6)
    assert found.at(50) == pytest.approx(law(np.array([50.0]), rate, sigma, kappa)[0], rel=1e-4)


def test_intervals_hold_the_truth() -> None:
    """With 2 % noise the 95 % interval of sigma holds the true value in most of 200 cases."""
    random = np.random.default_rng(3)
    users = np.array([1, 2, 4, 8, 16, 32, 64, 96.0])
    held = 0
    for _ in range(200):
        clean = law(users, 100, 0.05, 5e-4)
        found = fit(list(users), list(clean + random.normal(size=8) * 10))
        assert found is not None
        assert found.sigma.low is not None
        assert found.sigma.high is not None
        held += found.sigma.low <= 0.05 <= found.sigma.high
    assert 175 <= held <= 200


def test_what_only_rises_has_no_peak() -> None:
    """Without kappa there is a ceiling but no number of users beyond which it falls."""
    users = np.array([1, 2, 4, 8, 16, 32.0])
    found = fit(list(users), list(law(users, 10, 0.1, 0)))
    assert found is not None
    assert found.peak_users.value is None
    assert found.peak_throughput.value == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize("users", [[], [1.0], [1.0, 2.0], [4.0, 4.0, 4.0]])
def test_too_few_points_make_no_law(users: list[float]) -> None:
    assert (fit(users, [each * 10 for each in users]) if users else None) is None


def test_three_points_have_no_interval() -> None:
    """Three points are met exactly, so nothing says how far the fit can be trusted."""
    found = fit([1, 2, 4], [10, 18, 30])
    assert found is not None
    assert not found.sigma.reliable
    assert found.sigma.low is None
