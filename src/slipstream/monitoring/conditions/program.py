"""A condition compiled to closures over `Readings`. Three-valued: true, false, and no data to say so.

What cannot be measured is never 0: a comparison with it is unanswered, and `and` / `or` answer only
what the known side decides (Kleene, 1938).
"""

import math
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from slipstream.config.settings import Slo
from slipstream.core.alerts import Answer, Terms
from slipstream.core.errors import ConfigurationError
from slipstream.core.readings import Readings, derived
from slipstream.monitoring.conditions import expand
from slipstream.monitoring.conditions.parser import parse
from slipstream.monitoring.conditions.subjects import MINIMUM_COUNT, SUBJECTS, Subject, quantile
from slipstream.monitoring.conditions.syntax import (
    Absent,
    Amount,
    Both,
    Burn,
    Compare,
    Condition,
    Either,
    Negative,
    Not,
    Number,
    Reading,
    Sum,
    Truth,
    arithmetic,
    dimension_of,
)
from slipstream.monitoring.conditions.units import Dimension, shown

Ask = Callable[[Readings], bool | None]
Measure = Callable[[Readings], float | None]

BURN_SHORT = 12
"""A burn rate is also looked at over this part of its window, so that it ends when the burning ends."""

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
}


class Program:
    """A condition that can be asked.

    Args:
        condition: its tree.
        slos: the objectives that `burn` asks of, by name.

    Attributes:
        condition: the tree.
        expanded: shown with all its defaults.
        terms: what its clauses ask of the state machine.
        window_seconds: its longest window.
    """

    def __init__(self, condition: Condition, slos: Mapping[str, Slo]) -> None:
        minimum = MINIMUM_COUNT if condition.min_count is None else condition.min_count
        compiler = _Compiler(slos, minimum)
        self.condition = condition
        self.expanded = expand.expand(condition)
        self.terms = Terms(
            condition.for_seconds * 1_000_000_000, condition.keep_seconds * 1_000_000_000, condition.no_data
        )
        self.window_seconds = max(_windows(condition.when), default=0)
        self._when = compiler.truth(condition.when)
        self._clear = compiler.truth(condition.clear_when) if condition.clear_when is not None else None
        compared = _compared(condition.when)
        self._value = compiler.amount(compared) if compared is not None else None
        self._dimension: Dimension = dimension_of(compared) if compared is not None else "number"

    def ask(self, readings: Readings) -> Answer:
        """What the condition says now."""
        return Answer(
            self._when(readings),
            self._value(readings) if self._value is not None else None,
            self._clear is not None,
            self._clear(readings) if self._clear is not None else None,
        )

    def shown(self, value: float | None) -> str:
        """A value of `Answer` with its unit, to four digits; empty where there is none."""
        return shown(float(f"{value:.4g}"), self._dimension) if value is not None else ""


def compiled(text: str, slos: Mapping[str, Slo]) -> Program:
    """The program of a condition. Raises `ConditionError`."""
    return Program(parse(text, slos), slos)


class Tested(Struct, frozen=True):
    """What a condition means, and what it says now."""

    expanded: str
    fires: bool | None
    """None: there is no data to say so."""
    value: str
    """What was compared, with its unit; empty without data."""


def tested(text: str, slos: Mapping[str, Slo], readings: Readings) -> Tested:
    """Ask a condition once. Raises `ConditionError`."""
    program = compiled(text, slos)
    answer = program.ask(readings)
    return Tested(program.expanded, answer.fires, program.shown(answer.value))


class _Compiler:
    def __init__(self, slos: Mapping[str, Slo], minimum: int) -> None:
        self._slos = slos
        self._minimum = minimum

    def truth(self, node: Truth) -> Ask:
        match node:
            case Compare():
                return self._compare(node)
            case Absent(metric, labels, window):
                seen = _seen(SUBJECTS[metric], dict(labels), window)
                return lambda readings: not seen(readings)
            case Not(operand):
                inner = self.truth(operand)
                return lambda readings: _opposite(inner(readings))
            case Both(left, right):
                return _decided_by(self.truth(left), self.truth(right), decisive=False)
            case Either(left, right):
                return _decided_by(self.truth(left), self.truth(right), decisive=True)

    def amount(self, node: Amount) -> Measure:
        match node:
            case Number(value):
                return lambda _: value
            case Reading():
                return _reading(node, self._minimum)
            case Burn(slo, window):
                if slo not in self._slos:
                    raise ConfigurationError(
                        f"There is no objective `{slo}`.",
                        hint=f"Write it in the settings: [slo.{slo}] objective = 99.9",
                    )
                return _burn(self._slos[slo], window, self._minimum)
            case Negative(operand):
                inner = self.amount(operand)
                return lambda readings: _negative(inner(readings))
            case Sum(sign, left, right):
                one, other = self.amount(left), self.amount(right)

                def total(readings: Readings) -> float | None:
                    first, second = one(readings), other(readings)
                    return None if first is None or second is None else arithmetic(sign, first, second)

                return total

    def _compare(self, node: Compare) -> Ask:
        left, right, holds = self.amount(node.left), self.amount(node.right), _COMPARISONS[node.sign]

        def compare(readings: Readings) -> bool | None:
            one, other = left(readings), right(readings)
            return None if one is None or other is None else holds(one, other)

        return compare


def _reading(node: Reading, minimum: int) -> Measure:
    subject = SUBJECTS[node.metric]
    labels, window, factor = dict(node.labels), node.window_seconds, subject.factor
    if node.dimension != subject.dimension:
        factor = 1.0
    raw = _raw(subject, node.aggregate, labels, window, minimum=minimum)

    def measure(readings: Readings) -> float | None:
        value = raw(readings)
        return None if value is None or math.isnan(value) else value * factor

    return measure


def _raw(subject: Subject, aggregate: str, labels: dict[str, str], window: int, *, minimum: int) -> Measure:
    """What `Readings` says, in the metric's own unit."""
    name = subject.metric.name
    match subject.metric.kind:
        case "counter" if aggregate == "delta":
            return lambda readings: readings.counter(name, labels, window)
        case "counter":
            return lambda readings: readings.rate(name, labels, window)
        case "gauge" if aggregate == "last":
            return lambda readings: readings.gauge(name, labels)
        case "gauge":
            return _looks(name, aggregate, labels, window)
        case "histogram":
            return _values(name, aggregate, labels, window, minimum=minimum)
        case "derived":
            return _derived(subject, labels, window, minimum)


def _looks(name: str, aggregate: str, labels: dict[str, str], window: int) -> Measure:
    def measure(readings: Readings) -> float | None:
        stats = readings.gauge_stats(name, labels, window)
        if stats is None:
            return None
        return {"avg": stats.average, "min": stats.low, "max": stats.high}[aggregate]

    return measure


def _values(name: str, aggregate: str, labels: dict[str, str], window: int, *, minimum: int) -> Measure:
    share = quantile(aggregate)
    if aggregate == "count":
        return lambda readings: readings.counter(name, labels, window)
    if aggregate == "rate":
        return lambda readings: readings.rate(name, labels, window)

    def measure(readings: Readings) -> float | None:
        sketch = readings.sketch(name, labels, window)
        if sketch is None or (share is not None and sketch.count < minimum):
            return None
        if share is not None:
            return sketch.quantile(share)
        return {"avg": sketch.mean, "min": sketch.low, "max": sketch.high, "sum": sketch.sum}[aggregate]

    return measure


def _derived(subject: Subject, labels: dict[str, str], window: int, minimum: int) -> Measure:
    """A share needs its minimum of cases, a rate anything at all: an idle system is no data, not slow."""
    name, (above, below) = subject.metric.name, subject.metric.over
    counted = below or above
    known = {label: value for label, value in labels.items() if label in SUBJECTS[counted].metric.labels}
    least = minimum if below else 1

    def measure(readings: Readings) -> float | None:
        if (readings.counter(counted, known, window) or 0.0) < least:
            return None
        return derived(readings, name, labels, window)

    return measure


def _seen(subject: Subject, labels: dict[str, str], window: int) -> Callable[[Readings], bool]:
    name = subject.metric.name
    match subject.metric.kind:
        case "gauge":
            return lambda readings: readings.gauge_stats(name, labels, window) is not None
        case "derived":
            name = subject.metric.over[1] or subject.metric.over[0]
            labels = {each: value for each, value in labels.items() if each in SUBJECTS[name].metric.labels}
    return lambda readings: bool(readings.counter(name, labels, window))


def _burn(slo: Slo, window: int, minimum: int) -> Measure:
    """The lower of the burn rates over the window and its twelfth (SRE workbook, chapter 5)."""
    budget = 1.0 - slo.objective / 100.0

    def measure(readings: Readings) -> float | None:
        long = _bad_share(readings, slo, window, minimum)
        short = _bad_share(readings, slo, window / BURN_SHORT, 1)
        return None if long is None or short is None else min(long, short) / budget

    return measure


def _bad_share(readings: Readings, slo: Slo, window: float, minimum: int) -> float | None:
    labels = {"model": slo.model} if slo.model else {}
    if slo.latency_ms:
        sketch = readings.sketch("response_time", labels, window)
        if sketch is None or sketch.count < max(1, minimum):
            return None
        return sketch.above(slo.latency_ms) / sketch.count
    requests = readings.counter("requests", labels, window)
    if not requests or requests < minimum:
        return None
    return min(1.0, (readings.counter("errors", labels, window) or 0.0) / requests)


def _decided_by(left: Ask, right: Ask, *, decisive: bool) -> Ask:
    """`or` where True decides, `and` where False does."""

    def both(readings: Readings) -> bool | None:
        one = left(readings)
        if one is decisive:
            return decisive
        other = right(readings)
        if other is decisive:
            return decisive
        return None if one is None or other is None else not decisive

    return both


def _compared(node: Truth) -> Amount | None:
    """The first amount that is measured: what a person wants to know of an alert."""
    match node:
        case Compare(_, left, right):
            return right if isinstance(left, Number) else left
        case Absent():
            return None
        case Not(operand):
            return _compared(operand)
        case Both(left, right) | Either(left, right):
            return _compared(left) or _compared(right)


def _windows(node: Truth | Amount) -> Iterator[int]:
    match node:
        case Reading(_, _, _, window) | Absent(_, _, window) | Burn(_, window):
            yield window
        case Not(operand) | Negative(operand):
            yield from _windows(operand)
        case Both(left, right) | Either(left, right) | Compare(_, left, right) | Sum(_, left, right):
            yield from _windows(left)
            yield from _windows(right)


def _opposite(said: bool | None) -> bool | None:
    return None if said is None else not said


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
