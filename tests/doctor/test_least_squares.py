"""Lines through points: exact where there is one, and never a slope below zero."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.doctor.least_squares import _solve, fit, value

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


def plain(rows: list[tuple[float, ...]], targets: list[float]) -> tuple[float, ...]:
    """The same by its definition: every choice of columns, each from the rows anew."""
    width = len(rows[0])
    best: tuple[float, tuple[float, ...]] | None = None
    for size in range(width, -1, -1):
        for columns in itertools.combinations(range(width), size):
            count = len(rows)
            middle = math.fsum(targets) / count
            means = [math.fsum(row[column] for row in rows) / count for column in columns]
            centred = [
                [row[column] - mean for column, mean in zip(columns, means, strict=True)] for row in rows
            ]
            matrix = [
                [math.fsum(row[i] * row[j] for row in centred) for j in range(size)] for i in range(size)
            ]
            right = [
                math.fsum(row[i] * (target - middle) for row, target in zip(centred, targets, strict=True))
                for i in range(size)
            ]
            slopes = _solve(matrix, right)
            if slopes is None or any(slope < 0 for slope in slopes):
                continue
            whole = [middle - math.fsum(s * m for s, m in zip(slopes, means, strict=True)), *([0.0] * width)]
            for column, slope in zip(columns, slopes, strict=True):
                whole[column + 1] = slope
            heights = [
                whole[0] + math.fsum(s * x for s, x in zip(whole[1:], row, strict=True)) for row in rows
            ]
            error = math.fsum((target - height) ** 2 for target, height in zip(targets, heights, strict=True))
            if best is None or error < best[0] * (1 - 1e-9):
                best = error, tuple(whole)
    assert best is not None
    return best[1]


@given(st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([0.0, 1e-9, 0.3, 30.0]))
def test_it_is_the_plain_way_to_the_bit(width: int, count: int, seed: int, noise: float) -> None:
    """Sums are shared and needless choices left out; what comes out is the same number, with noise and without."""
    chance = random.Random(seed)
    rows = [
        tuple(float(chance.choice([1, chance.randint(1, 900)])) for _ in range(width)) for _ in range(count)
    ]
    slopes = [chance.uniform(-0.02, 0.1) for _ in range(width)]
    targets = [
        0.2 + math.fsum(s * x for s, x in zip(slopes, row, strict=True)) + noise * chance.gauss(0, 1)
        for row in rows
    ]

    assert fit(rows, targets) == plain(rows, targets)
