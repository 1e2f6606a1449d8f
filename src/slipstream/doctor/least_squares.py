"""A straight line through many points: ordinary least squares with slopes that cannot be negative. Pure.

A longer prompt or a fuller server never makes an answer faster; a slope that comes out negative is noise
and is left out. No dependency: there are three unknowns.
"""

import itertools
import math
import operator
from collections.abc import Sequence

from msgspec import Struct

ROUNDING = 1e-3
"""An error below this share of the targets' spread may be so small that rounding decides."""


def fit(rows: Sequence[Sequence[float]], targets: Sequence[float]) -> tuple[float, ...]:
    """Coefficients for `rows` (without the constant) that come nearest to `targets`; the constant first.

    Every slope is zero or positive: among the choices of columns with none negative, the one with the
    least error (exact for the few columns there are). Without rows: all zero.
    """
    if not rows:
        return (0.0,)
    width = len(rows[0])
    sums = _summed(rows, targets)
    best: tuple[float, tuple[float, ...]] | None = None
    for size in range(width, -1, -1):
        for columns in itertools.combinations(range(width), size):
            found = _fit_columns(sums, columns)
            if found is None or any(slope < 0 for slope in found[1:]):
                continue
            whole = [found[0], *(0.0 for _ in range(width))]
            for column, slope in zip(columns, found[1:], strict=True):
                whole[column + 1] = slope
            error = _error(rows, targets, whole)
            if best is None or error < best[0] * (1 - 1e-9):
                best = error, tuple(whole)
            if size == width and error > ROUNDING * sums.spread:
                return tuple(whole)  # fewer columns never come nearer, but for rounding
    assert best is not None
    return best[1]


def value(coefficients: Sequence[float], row: Sequence[float]) -> float:
    """The height of the line at `row`."""
    if len(row) == 1:
        return coefficients[0] + coefficients[1] * row[0]
    if len(row) == 2:  # the sum of two is rounded once, as `fsum` does it
        return coefficients[0] + (coefficients[1] * row[0] + coefficients[2] * row[1])
    return coefficients[0] + math.fsum(map(operator.mul, coefficients[1:], row))


class _Sums(Struct, frozen=True):
    """What the normal equations of centred data need, of all columns. `spread`: the targets' squares."""

    middle: float
    means: list[float]
    matrix: list[list[float]]
    right: list[float]
    spread: float


def _summed(rows: Sequence[Sequence[float]], targets: Sequence[float]) -> _Sums:
    count = len(rows)
    middle = math.fsum(targets) / count
    columns = list(zip(*rows, strict=True))
    means = [math.fsum(column) / count for column in columns]
    centred = [[x - mean for x in column] for column, mean in zip(columns, means, strict=True)]
    beside = [target - middle for target in targets]
    size = len(columns)
    matrix = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i, size):
            matrix[i][j] = matrix[j][i] = math.fsum(map(operator.mul, centred[i], centred[j]))
    right = [math.fsum(map(operator.mul, column, beside)) for column in centred]
    return _Sums(middle, means, matrix, right, math.fsum(map(operator.mul, beside, beside)))


def _fit_columns(sums: _Sums, columns: Sequence[int]) -> tuple[float, ...] | None:
    """Least squares on some columns; None where singular."""
    matrix = [[sums.matrix[i][j] for j in columns] for i in columns]
    slopes = _solve(matrix, [sums.right[i] for i in columns])
    if slopes is None:
        return None
    explained = (slope * sums.means[column] for slope, column in zip(slopes, columns, strict=True))
    return (sums.middle - math.fsum(explained), *slopes)


def _solve(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    size = len(right)
    rows = [[*line, end] for line, end in zip(matrix, right, strict=True)]
    for at in range(size):
        pivot = max(range(at, size), key=lambda line: abs(rows[line][at]))
        scale = max(abs(matrix[at][at]), 1e-300)
        if abs(rows[pivot][at]) <= 1e-9 * scale:
            return None
        rows[at], rows[pivot] = rows[pivot], rows[at]
        for line in range(at + 1, size):
            factor = rows[line][at] / rows[at][at]
            rows[line] = [x - factor * y for x, y in zip(rows[line], rows[at], strict=True)]
    found = [0.0] * size
    for at in range(size - 1, -1, -1):
        rest = math.fsum(rows[at][other] * found[other] for other in range(at + 1, size))
        found[at] = (rows[at][size] - rest) / rows[at][at]
    return found


def _error(rows: Sequence[Sequence[float]], targets: Sequence[float], line: Sequence[float]) -> float:
    return math.fsum((target - value(line, row)) ** 2 for row, target in zip(rows, targets, strict=True))
