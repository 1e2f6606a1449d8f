"""A straight line through many points: ordinary least squares with slopes that cannot be negative. Pure.

A longer prompt or a fuller server never makes an answer faster; a slope that comes out negative is noise
and is left out. No dependency: there are three unknowns.
"""

import itertools
import math
from collections.abc import Sequence


def fit(rows: Sequence[Sequence[float]], targets: Sequence[float]) -> tuple[float, ...]:
    """Coefficients for `rows` (without the constant) that come nearest to `targets`; the constant first.

    Every slope is zero or positive: among the choices of columns with none negative, the one with the
    least error (exact for the few columns there are). Without rows: all zero.
    """
    if not rows:
        return (0.0,)
    width = len(rows[0])
    best: tuple[float, tuple[float, ...]] | None = None
    for size in range(width, -1, -1):
        for columns in itertools.combinations(range(width), size):
            found = _fit_columns(rows, targets, columns)
            if found is None or any(slope < 0 for slope in found[1:]):
                continue
            whole = [found[0], *(0.0 for _ in range(width))]
            for column, slope in zip(columns, found[1:], strict=True):
                whole[column + 1] = slope
            error = _error(rows, targets, whole)
            if best is None or error < best[0] * (1 - 1e-9):
                best = error, tuple(whole)
    assert best is not None
    return best[1]


def value(coefficients: Sequence[float], row: Sequence[float]) -> float:
    """The height of the line at `row`."""
    return coefficients[0] + math.fsum(slope * x for slope, x in zip(coefficients[1:], row, strict=True))


def _fit_columns(
    rows: Sequence[Sequence[float]], targets: Sequence[float], columns: Sequence[int]
) -> tuple[float, ...] | None:
    """Least squares on some columns, by the normal equations of centred data; None where singular."""
    count = len(rows)
    middle = math.fsum(targets) / count
    means = [math.fsum(row[column] for row in rows) / count for column in columns]
    centred = [[row[column] - mean for column, mean in zip(columns, means, strict=True)] for row in rows]
    size = len(columns)
    matrix = [[math.fsum(row[i] * row[j] for row in centred) for j in range(size)] for i in range(size)]
    right = [
        math.fsum(row[i] * (target - middle) for row, target in zip(centred, targets, strict=True))
        for i in range(size)
    ]
    slopes = _solve(matrix, right)
    if slopes is None:
        return None
    constant = middle - math.fsum(slope * mean for slope, mean in zip(slopes, means, strict=True))
    return (constant, *slopes)


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
