"""How fast an endpoint is thought to be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.pace import FADE_NS, SAMPLES_MIN, Pace

SECOND = 1_000_000_000
samples = st.lists(
    st.tuples(st.integers(0, 20 * SECOND), st.integers(1, 100 * SECOND)), min_size=1, max_size=60
)


@given(samples)
def test_an_estimate_lies_among_what_was_seen(seen: list[tuple[int, int]]) -> None:
    """It is never below the fastest nor above the slowest sample."""
    pace, now = Pace(), 0
    for gap, took in seen:
        now += gap
        pace.see(took, now)
    times = [took for _, took in seen]

    assert min(times) * 0.999 <= pace.estimate_ns <= max(times) * 1.001


def test_it_rises_quickly_and_falls_slowly() -> None:
    """One slow answer moves it half-way at once; one quick answer, a moment later, hardly."""
    pace = Pace()
    pace.see(100, 0)
    pace.see(1100, 1)
    assert pace.estimate_ns == 600

    pace.see(100, SECOND)

    assert pace.estimate_ns == pytest.approx(100 + 500 * math.exp(-0.1), rel=0.01)


@given(st.integers(0, 100 * SECOND), st.integers(1, 1000), st.integers(1, 1000))
def test_unused_it_fades_to_equal_and_no_further(idle: int, took: int, floor: int) -> None:
    """Without samples it falls by the time constant, never below the better of the two compared."""
    pace = Pace()
    pace.see(took, 0)
    faded = pace.faded_ns(idle, min(floor, took))

    assert faded == pytest.approx(max(min(floor, took), took * math.exp(-idle / FADE_NS)))


def test_a_wait_that_was_given_up_counts_as_at_least_that_long() -> None:
    """Longer than the estimate it raises it; shorter it says nothing."""
    pace = Pace()
    pace.see(100, 0)
    pace.see_at_least(50, 0)
    assert pace.estimate_ns == 100

    pace.see_at_least(300, 0)

    assert pace.estimate_ns == 200


def test_the_median_needs_enough_recent_samples() -> None:
    """Too few or too old: no median, so no verdict; one wild sample does not move it."""
    pace = Pace()
    for _ in range(SAMPLES_MIN - 1):
        pace.see(100, 0)
    assert pace.median_ns(0) is None

    pace.see(100_000, 0)

    assert pace.median_ns(0) == 100
    assert pace.median_ns(31 * SECOND) is None


def test_the_median_follows_the_latest() -> None:
    """Only the last samples are kept."""
    pace = Pace()
    for took in (100,) * 50 + (900,) * 16:
        pace.see(took, 0)

    assert pace.median_ns(0) == 900
