"""The tree of a condition: closed, frozen, and all that a condition can be."""

import math
from typing import Literal

from msgspec import Struct

from slipstream.core.alerts import NoData
from slipstream.monitoring.conditions.units import Dimension

Comparison = Literal["<", "<=", ">", ">=", "==", "!="]
Arithmetic = Literal["+", "-", "*", "/"]
Labels = tuple[tuple[str, str], ...]


class Number(Struct, frozen=True, tag=True):
    """A literal, in its inside unit."""

    value: float
    dimension: Dimension


class Reading(Struct, frozen=True, tag=True):
    """One look at a metric: an aggregate of it over a window.

    Attributes:
        aggregate: `p95`, `avg`, `rate` …; `value` is a subject's own meaning, such as an error rate.
        metric: the name in the condition.
        labels: what must hold of a series for it to count; sorted.
    """

    aggregate: str
    metric: str
    labels: Labels
    window_seconds: int
    dimension: Dimension


class Burn(Struct, frozen=True, tag=True):
    """How fast an objective's error budget burns, over a window and over a twelfth of it: the lower one."""

    slo: str
    window_seconds: int


class Negative(Struct, frozen=True, tag=True):
    """Minus."""

    operand: "Amount"


class Sum(Struct, frozen=True, tag=True):
    """Arithmetic on two amounts."""

    sign: Arithmetic
    left: "Amount"
    right: "Amount"


class Compare(Struct, frozen=True, tag=True):
    """One amount against another."""

    sign: Comparison
    left: "Amount"
    right: "Amount"


class Absent(Struct, frozen=True, tag=True):
    """True when nothing was seen of a metric in a window."""

    metric: str
    labels: Labels
    window_seconds: int


class Not(Struct, frozen=True, tag=True):
    """The opposite."""

    operand: "Truth"


class Both(Struct, frozen=True, tag=True):
    """`and`."""

    left: "Truth"
    right: "Truth"


class Either(Struct, frozen=True, tag=True):
    """`or`."""

    left: "Truth"
    right: "Truth"


Amount = Number | Reading | Burn | Negative | Sum
Truth = Compare | Absent | Not | Both | Either
Node = Amount | Truth


class Condition(Struct, frozen=True):
    """A whole condition with its clauses.

    Attributes:
        when: fires when this holds …
        for_seconds: … for this long, and …
        keep_seconds: … keeps firing for this long after it no longer does.
        clear_when: while it fires, this decides on the end instead; None = the opposite of `when`.
        min_count: fewest samples of a percentile or a share; None = each subject's own.
        no_data: what an unanswered question means: nothing, no change, or an alert.
    """

    when: Truth
    for_seconds: int = 0
    keep_seconds: int = 0
    clear_when: Truth | None = None
    min_count: int | None = None
    no_data: NoData = "ok"


def literal(value: float, dimension: Dimension) -> Number:
    """A literal as it is shown: twelve significant digits are compared, and no others."""
    return Number(float(f"{value:.12g}"), dimension)


def dimension_of(amount: Amount) -> Dimension:
    """What an amount measures."""
    match amount:
        case Number(_, dimension) | Reading(_, _, _, _, dimension):
            return dimension
        case Burn():
            return "number"
        case Negative(operand):
            return dimension_of(operand)
        case Sum("+" | "-", left, right):
            found = dimension_of(left)
            return dimension_of(right) if found == "number" else found
        case Sum("*", left, right):
            return _scaled(dimension_of(left), dimension_of(right))
        case Sum(_, left, right):
            return dimension_of(left) if dimension_of(right) == "number" else "number"


def _scaled(left: Dimension, right: Dimension) -> Dimension:
    if left in {"number", "share"}:
        return right
    return left if right in {"number", "share"} else "number"


def arithmetic(sign: Arithmetic, left: float, right: float) -> float | None:
    """The result; None for what is no finite number: a division by zero, an overflow, NaN."""
    match sign:
        case "+":
            value = left + right
        case "-":
            value = left - right
        case "*":
            value = left * right
        case "/":
            if right == 0:
                return None
            value = left / right
    return value if math.isfinite(value) else None
