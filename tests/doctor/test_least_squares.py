"""Lines through points: exact where there is one, and never a slope below zero."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.doctor.least_squares import fit, value

NUMBERS = st.floats(0, 100, allow_subnormal=False)


@given(NUMBERS, NUMBERS, NUMBERS, st.lists(st.tuples(NUMBERS, NUMBERS), min_size=6, max_size=30))
def test_a_line_is_found_again(a: float, b: float, c: float, rows: list[tuple[float, float]]) -> None:
    """Points that lie on a line are met by what is fitted to them."""
    targets = [a + b * x + c * y for x, y in rows]
    found = fit(rows, targets)

    for row, target in zip(rows, targets, strict=True):
        assert value(found, row) == pytest.approx(target, rel=1e-3, abs=1e-2 * (1 + a + b + c))


@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.floats(-100, 100)), min_size=1, max_size=30))
def test_no_slope_is_negative(points: list[tuple[float, float, float]]) -> None:
    """Whatever the points: nothing gets faster by being longer."""
    found = fit([(x, y) for x, y, _ in points], [z for _, _, z in points])

    assert all(slope >= 0 for slope in found[1:])
    assert all(math.isfinite(each) for each in found)


def test_a_falling_line_becomes_its_mean() -> None:
    """What falls is noise: the constant is left."""
    assert fit([(0.0,), (1.0,), (2.0,)], [3.0, 2.0, 1.0]) == (2.0, 0.0)
