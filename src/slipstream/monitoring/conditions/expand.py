"""A condition shown back with all its defaults: `p95 of response_time over 1 min > 5 s`.

What is shown is in the language itself: it reads back as the very same tree.
"""

from slipstream.monitoring.conditions.syntax import (
    Absent,
    Amount,
    Both,
    Burn,
    Compare,
    Condition,
    Either,
    Labels,
    Negative,
    Not,
    Number,
    Reading,
    Sum,
    Truth,
)
from slipstream.monitoring.conditions.tokens import quoted
from slipstream.monitoring.conditions.units import duration, shown


def expand(condition: Condition) -> str:
    """The whole condition with its clauses."""
    parts = [truth(condition.when)]
    if condition.for_seconds:
        parts.append(f"for {duration(condition.for_seconds)}")
    if condition.keep_seconds:
        parts.append(f"keep {duration(condition.keep_seconds)}")
    if condition.clear_when is not None:
        parts.append(f"clear when {truth(condition.clear_when)}")
    if condition.min_count is not None:
        parts.append(f"min count {condition.min_count}")
    if condition.no_data != "ok":
        parts.append(f"no data {condition.no_data}")
    return ", ".join(parts)


def truth(node: Truth) -> str:
    """A question."""
    match node:
        case Compare(sign, left, right):
            return f"{amount(left)} {sign} {amount(right)}"
        case Absent(metric, labels, window):
            return f"absent({metric}{_labels(labels)}, {duration(window)})"
        case Not(operand):
            return f"not {_bracketed(operand, Both, Either)}"
        case Both(left, right):
            return f"{_bracketed(left, Either)} and {_bracketed(right, Either, Both)}"
        case Either(left, right):
            return f"{truth(left)} or {_bracketed(right, Either)}"


def amount(node: Amount) -> str:
    """An amount."""
    match node:
        case Number(value, dimension):
            return shown(value, dimension)
        case Reading():
            return reading(node)
        case Burn(slo, window):
            return f"burn({quoted(slo)}, {duration(window)})"
        case Negative(operand):
            return f"-({amount(operand)})"
        case Sum(sign, left, right):
            weak = ("+", "-") if sign in {"*", "/"} else ()
            strong = (*weak, "*", "/") if sign in {"*", "/"} else ("+", "-")
            return f"{_summand(left, weak)} {sign} {_summand(right, strong)}"


def reading(node: Reading) -> str:
    """A reference to a metric."""
    name = f"{node.metric}{_labels(node.labels)}"
    what = name if node.aggregate == "value" else f"{node.aggregate} of {name}"
    return f"{what} over {duration(node.window_seconds)}" if node.window_seconds else what


def _labels(labels: Labels) -> str:
    inside = ", ".join(f"{name}={quoted(value)}" for name, value in labels)
    return f"{{{inside}}}" if inside else ""


def _bracketed(node: Truth, *weaker: type) -> str:
    return f"({truth(node)})" if isinstance(node, weaker) else truth(node)


def _summand(node: Amount, weaker: tuple[str, ...]) -> str:
    return f"({amount(node)})" if isinstance(node, Sum) and node.sign in weaker else amount(node)
