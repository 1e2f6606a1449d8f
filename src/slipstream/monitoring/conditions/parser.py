"""The parser: tokens into a `Condition`, by precedence climbing (Pratt, 1973), with kinds checked on the way.

    condition := truth clause*
    clause    := ["for" | "keep"] duration | "clear when" truth | "min count" number | "no data" mode
    truth     := "not" truth | truth ("and" | "or") truth | amount comparison amount | "absent(" … ")"
    amount    := amount ("+" | "-" | "*" | "/") amount | "-" amount | number [unit] | reading | "(" … ")"
    reading   := name [labels] ["over" window] | aggregate "(" name [labels] ["," window] ")"
               | aggregate "of" name [labels] ["over" window] | "burn(" slo "," window ")"

Comparisons do not chain, `not` binds looser than they do, and brackets nest `DEPTH_MAX` deep at most.
"""

from collections.abc import Callable, Collection

from slipstream.core.nearest import nearest
from slipstream.monitoring.conditions import clauses, units
from slipstream.monitoring.conditions.reference import References
from slipstream.monitoring.conditions.stream import CLAUSE_WORDS, Stream
from slipstream.monitoring.conditions.subjects import SUBJECTS, Subject
from slipstream.monitoring.conditions.syntax import (
    Amount,
    Both,
    Compare,
    Condition,
    Either,
    Negative,
    Node,
    Not,
    Number,
    Reading,
    Sum,
    Truth,
    arithmetic,
    dimension_of,
    literal,
)
from slipstream.monitoring.conditions.tokens import Token

DEPTH_MAX = 32
"""How deep brackets, `not` and minus may nest."""
NUMBER_MAX = 1e18
"""Largest number: 30 billion years, or 1,000 petabytes. Beyond it rounding alone would decide."""

_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _NEGATIVE = range(1, 8)
_BINDING = {
    "or": _OR, "and": _AND, "<": _COMPARISON, "<=": _COMPARISON, ">": _COMPARISON, ">=": _COMPARISON,
    "==": _COMPARISON, "!=": _COMPARISON, "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT,
}  # fmt: skip
_TOO_LARGE = "Numbers go up to 10^18."
_MAY_FOLLOW = {"and", "or", *CLAUSE_WORDS}
"""Words that may stand behind a number."""


def parse(text: str, slos: Collection[str] | None = None) -> Condition:
    """The tree of a condition. Raises `ConditionError` that points at the character.

    `slos` are the objectives that `burn` may ask of; None leaves that open.
    """
    stream = Stream(text)
    parser = _Parser(stream, References(stream, slos))
    when = parser.truth()
    told = clauses.read(stream, parser.truth)
    stream.expect_end()
    return Condition(
        when,
        for_seconds=told.for_seconds,
        keep_seconds=told.keep_seconds,
        clear_when=told.clear_when,
        min_count=told.min_count,
        no_data=told.no_data,
    )


class _Parser:
    def __init__(self, stream: Stream, references: References) -> None:
        self._stream = stream
        self._references = references
        self._depth = 0

    def truth(self) -> Truth:
        """A whole expression that is true or false."""
        begin = self._stream.next
        return self._as_truth(self._expression(0), begin)

    def _expression(self, binding: int) -> Node:
        stream = self._stream
        first = stream.next
        left = self._nested(self._prefix)
        while (found := _BINDING.get(stream.next.text, 0)) > binding and stream.next.kind in {"sign", "name"}:
            sign = stream.take()
            begin = stream.next
            right = self._expression(found)
            left = self._joined(sign, (left, first), (right, begin))
            if found == _COMPARISON and _BINDING.get(stream.next.text, 0) == _COMPARISON:
                raise stream.mistake(
                    "Comparisons do not chain.", stream.next, hint="Join two of them with `and`."
                )
        return left

    def _nested(self, read: Callable[[], Node]) -> Node:
        if self._depth >= DEPTH_MAX:
            raise self._stream.mistake(f"This nests deeper than {DEPTH_MAX}.", self._stream.next)
        self._depth += 1
        node = read()
        self._depth -= 1
        return node

    def _prefix(self) -> Node:
        stream = self._stream
        token = stream.next
        if stream.take_if("("):
            inner = self._expression(0)
            stream.expect(")")
            return inner
        if stream.take_if("-"):
            begin = stream.next
            operand = self._as_amount(self._expression(_NEGATIVE), begin)
            if isinstance(operand, Number):
                return Number(-operand.value, operand.dimension)
            return Negative(operand)
        if stream.take_if("not"):
            begin = stream.next
            return Not(self._as_truth(self._expression(_NOT), begin))
        if token.kind == "number":
            return self._number()
        if token.kind == "name":
            return self._references.read()
        raise stream.mistake("Here a metric or a number is missing." if token.kind == "end" else
                    f"`{token.text}` cannot stand here.", token)  # fmt: skip

    def _number(self) -> Number:
        stream = self._stream
        written = stream.take()
        value = float(written.text)
        token = stream.next
        if token.text in units.UNITS and not stream.at_clause():
            stream.take()
            unit = units.UNITS[token.text]
            return self._finite(literal(value * unit.factor, unit.dimension), written)
        if token.kind == "name" and token.text not in _MAY_FOLLOW:
            spelled = units.SPELLED.get(token.text.lower())
            meant = f"Write `{spelled}`." if spelled else nearest(token.text, {*units.UNITS, *_MAY_FOLLOW})
            raise stream.mistake(f"`{token.text}` is no unit.", token, hint=meant)
        return self._finite(literal(value, "number"), written)

    def _finite(self, number: Number, token: Token) -> Number:
        """A number that can be compared, and shown back in any of its units."""
        if abs(number.value) > NUMBER_MAX:
            raise self._stream.mistake("This number is too large.", token, hint=_TOO_LARGE)
        return number

    def _joined(self, sign: Token, left: tuple[Node, Token], right: tuple[Node, Token]) -> Node:
        match sign.text:
            case "and":
                return Both(self._as_truth(*left), self._as_truth(*right))
            case "or":
                return Either(self._as_truth(*left), self._as_truth(*right))
        one, other = self._as_amount(*left), self._as_amount(*right)
        match sign.text:
            case "*" | "/" as scaling:
                return self._folded(sign, Sum(scaling, one, other))
            case "+" | "-" as adding:
                one, other = self._same(sign, one, other)
                return self._folded(sign, Sum(adding, one, other))
            case "<" | "<=" | ">" | ">=" | "==" | "!=" as comparison:
                one, other = self._same(sign, one, other)
                if isinstance(one, Number) and isinstance(other, Number):
                    raise self._stream.mistake("This compares two numbers; no metric is in it.", sign)
                return Compare(comparison, one, other)
        raise AssertionError(sign.text)

    def _folded(self, sign: Token, node: Sum) -> Amount:
        """A sum of literals is a literal: what is shown back is what is compared."""
        if not isinstance(node.left, Number) or not isinstance(node.right, Number):
            return node
        if node.sign == "/" and not node.right.value:
            raise self._stream.mistake("This divides by zero.", sign)
        value = arithmetic(node.sign, node.left.value, node.right.value)
        if value is None:
            raise self._stream.mistake("This number is too large.", sign, hint=_TOO_LARGE)
        return self._finite(literal(value, dimension_of(node)), sign)

    def _same(self, sign: Token, one: Amount, other: Amount) -> tuple[Amount, Amount]:
        """Both in the same unit: a number without one takes that of the metric beside it."""
        one, other = self._bare(sign, one, other), self._bare(sign, other, one)
        left, right = dimension_of(one), dimension_of(other)
        if not units.agree(left, right):
            raise self._stream.mistake(
                f"{_ARTICLE[left].capitalize()} and {_ARTICLE[right]} do not go together.", sign
            )
        return one, other

    def _bare(self, sign: Token, bare: Amount, beside: Amount) -> Amount:
        if not isinstance(bare, Number) or bare.dimension != "number":
            return bare
        subject = _measured(beside)
        if subject is None:
            return bare
        if subject.metric.unit == "1" and abs(bare.value) > 1:
            raise self._stream.mistake(
                f"`{subject.metric.name}` runs from 0 to 1.",
                sign,
                hint=f"Write {bare.value:g} % if that is meant.",
            )
        return self._finite(literal(bare.value * subject.bare, subject.dimension), sign)

    def _as_truth(self, node: Node, begin: Token) -> Truth:
        if isinstance(node, Truth):
            return node
        if self._stream.next.text == "=":
            raise self._stream.mistake("`=` compares nothing.", self._stream.next, hint="Write `==`.")
        raise self._stream.mistake(
            "This is an amount, and not yet a question.", begin, hint="Compare it: `response_time > 5 s`."
        )

    def _as_amount(self, node: Node, begin: Token) -> Amount:
        if isinstance(node, Amount):
            return node
        raise self._stream.mistake("This is true or false; an amount is needed here.", begin)


_ARTICLE: dict[units.Dimension, str] = {
    "time": "a time",
    "share": "a share",
    "bytes": "an amount of data",
    "money": "an amount of money",
    "number": "a plain number",
}


def _measured(amount: Amount) -> Subject | None:
    """The metric whose unit an amount has; None for a plain number."""
    if dimension_of(amount) == "number":
        return None
    match amount:
        case Reading(_, metric):
            return SUBJECTS[metric]
        case Negative(operand):
            return _measured(operand)
        case Sum(_, left, right):
            return _measured(left) or _measured(right)
    return None
