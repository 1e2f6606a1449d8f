"""The verdict on two targets: how often it is right, on rounds whose truth is known."""

import math

import numpy as np
import pytest

from slipstream.testing.load.ratio import ratio


def verdicts(true_ratio: float, *, noise: float, rounds: int, seed: int) -> list[str]:
    """Verdicts of 400 comparisons whose rounds scatter by `noise` and drift together by far more."""
    random = np.random.default_rng(seed)
    out = []
    for _ in range(400):
        drift = np.exp(random.normal(size=rounds) * 0.3)
        sides = np.exp(random.normal(size=(rounds, 2)) * noise) * drift[:, None] * [100, 100 * true_ratio]
        pairs = [(float(a), float(b)) for a, b in sides]
        out.append(ratio(pairs, figure="p50", tolerance=0.1).verdict)
    return out


def test_a_planted_slowdown_fails() -> None:
    """20 % slower at 4 % noise, 7 rounds: FAIL in 19 of 20 at least."""
    found = verdicts(1.2, noise=0.04, rounds=7, seed=1)
    assert found.count("FAIL") >= 0.95 * len(found)
    assert "PASS" not in found


def test_an_unchanged_pair_passes() -> None:
    """Unchanged at 4 % noise: PASS in 15 of 20 at least, FAIL in hardly any."""
    found = verdicts(1.0, noise=0.04, rounds=7, seed=2)
    assert found.count("PASS") >= 0.95 * len(found)
    assert found.count("FAIL") <= 0.01 * len(found)


def test_at_the_edge_it_is_wrong_once_in_twenty() -> None:
    """Just as slow as is allowed: either verdict comes at its 5 % at most, the rest is not decided."""
    found = verdicts(1.1, noise=0.04, rounds=7, seed=3)
    assert found.count("FAIL") <= 0.08 * len(found)
    assert found.count("PASS") <= 0.08 * len(found)


def test_noise_is_not_decided() -> None:
    """Rounds that scatter by half say nothing about 10 %."""
    found = verdicts(1.0, noise=0.5, rounds=5, seed=4)
    assert found.count("INCONCLUSIVE") >= 0.8 * len(found)


def test_the_interval_is_of_the_ratio() -> None:
    """Students t on three paired log-ratios, by hand."""
    found = ratio([(100, 110), (200, 230), (50, 54)], figure="p95", tolerance=0.5)
    logs = [math.log(1.1), math.log(1.15), math.log(1.08)]
    half = 2.919986 * float(np.std(logs, ddof=1)) / math.sqrt(3)
    assert found.ratio == pytest.approx(math.exp(sum(logs) / 3))
    assert (found.low, found.high) == (
        pytest.approx(math.exp(sum(logs) / 3 - half), rel=1e-5),
        pytest.approx(math.exp(sum(logs) / 3 + half), rel=1e-5),
    )
    assert found.verdict == "PASS"


def test_rounds_that_agree_by_luck_do_not_narrow_it() -> None:
    """Three equal rounds have no spread; what sampling alone makes still stands in the interval."""
    lucky = [(100.0, 112.0)] * 3

    assert ratio(lucky, figure="p50", tolerance=0.1).verdict == "FAIL"
    assert ratio(lucky, figure="p50", tolerance=0.1, noise=0.1).verdict == "INCONCLUSIVE"
