"""Conditions as PromQL over what `/metrics` exports, and rules as a Prometheus rule file.

What has no counterpart there (`clear when`, `no data`) is said in a comment of the rule.
"""

import json
from collections.abc import Iterable, Iterator, Mapping

from slipstream.config.alerting import Slo
from slipstream.core.alerts import Rule
from slipstream.core.metrics import METRICS, Metric
from slipstream.monitoring.conditions import expand
from slipstream.monitoring.conditions.mistakes import ConditionError
from slipstream.monitoring.conditions.parser import parse
from slipstream.monitoring.conditions.program import BURN_SHORT
from slipstream.monitoring.conditions.subjects import MINIMUM_COUNT, SUBJECTS, quantile
from slipstream.monitoring.conditions.syntax import (
    Absent,
    Amount,
    Both,
    Burn,
    Compare,
    Comparison,
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
from slipstream.monitoring.conditions.units import digits
from slipstream.monitoring.prometheus import TIME_BOUNDS
from slipstream.monitoring.semconv import exported

_OPPOSITE: dict[Comparison, Comparison] = {
    "<": ">=",
    "<=": ">",
    ">": "<=",
    ">=": "<",
    "==": "!=",
    "!=": "==",
}


def rule_file(rules: Iterable[Rule], slos: Mapping[str, Slo]) -> str:
    """A Prometheus rule file (YAML) with all rules; one that cannot be understood is said in a comment."""
    lines = [line for rule in rules for line in _rule(rule, slos)]
    head = ["groups:", "  - name: slipstream", "    rules:" if lines else "    rules: []"]
    return "\n".join([*head, *lines]) + "\n"


def _rule(rule: Rule, slos: Mapping[str, Slo]) -> Iterator[str]:
    name = json.dumps(rule.name)
    try:
        condition = parse(rule.condition, slos)
    except ConditionError as error:
        yield f"      # {name} is left out: {json.dumps(error.what)}"
        return
    shown = expand.truth(condition.when)
    yield f"      # {expand.expand(condition)}"
    yield from (f"      # {lost}" for lost in _lost(condition, slos))
    yield f"      - alert: {name}"
    yield f"        expr: {json.dumps(query(condition, slos))}"
    if condition.for_seconds:
        yield f"        for: {condition.for_seconds}s"
    if condition.keep_seconds:
        yield f"        keep_firing_for: {condition.keep_seconds}s"
    yield f"        labels: {{severity: {rule.severity}, owner: {json.dumps(rule.owner)}}}"
    summary = _untemplated(f"{rule.name}: {shown}") + " (now {{ $value }})"
    yield f"        annotations: {{summary: {json.dumps(summary)}}}"


def _untemplated(text: str) -> str:
    """A text that Prometheus' templates leave as it is."""
    return text.replace("{{", '{{ "{{" }}')


def query(condition: Condition, slos: Mapping[str, Slo]) -> str:
    """The PromQL of a condition: it has a result where the condition holds."""
    minimum = MINIMUM_COUNT if condition.min_count is None else condition.min_count
    return _Writer(slos, minimum).truth(condition.when)


def _lost(condition: Condition, slos: Mapping[str, Slo]) -> list[str]:
    lost = [
        f"The {slo.latency_ms:g} ms of the objective {name!r} are taken as {_bound(slo):g} s."
        for name, slo in slos.items()
        if slo.latency_ms and _bound(slo) != slo.latency_ms / 1000 and _burns(condition.when, name)
    ]
    if condition.clear_when is not None:
        lost.append("`clear when` is not exported: Prometheus ends an alert when its expression does.")
    if condition.no_data != "ok":
        lost.append(f"`no data {condition.no_data}` is not exported: no data does not fire.")
    return lost


class _Writer:
    def __init__(self, slos: Mapping[str, Slo], minimum: int) -> None:
        self._slos = slos
        self._minimum = minimum

    def truth(self, node: Truth, *, opposite: bool = False) -> str:
        """A filter: `not` is pushed down to the comparisons, for which PromQL has no other place."""
        match node:
            case Not(operand):
                return self.truth(operand, opposite=not opposite)
            case Both(left, right) | Either(left, right):
                joins = isinstance(node, Both) is not opposite
                word = "and" if joins else "or"
                return (
                    f"({self.truth(left, opposite=opposite)}) {word} ({self.truth(right, opposite=opposite)})"
                )
            case Compare(sign, left, right):
                shown = _OPPOSITE[sign] if opposite else sign
                guards = "".join(f" and {guard}" for guard in self._guards(node))
                return f"{self.amount(left)} {shown} {self.amount(right)}{guards}"
            case Absent(metric, labels, window):
                seen = _seen(METRICS[metric], labels, window)
                return f"{seen} > 0" if opposite else f"absent({seen} > 0)"

    def amount(self, node: Amount) -> str:
        match node:
            case Number(value):
                return digits(value)
            case Reading():
                return _scaled(_reading(node), node)
            case Burn(slo, window):
                return self._burn(self._slos[slo], window)
            case Negative(operand):
                return f"-({self.amount(operand)})"
            case Sum(sign, left, right):
                return f"({self.amount(left)} {sign} {self.amount(right)})"

    def _guards(self, node: Amount | Truth) -> list[str]:
        """The minimum counts of what is compared."""
        match node:
            case Compare(_, left, right) | Sum(_, left, right):
                return list(dict.fromkeys([*self._guards(left), *self._guards(right)]))
            case Negative(operand):
                return self._guards(operand)
            case Reading(aggregate, name, labels, window):
                metric = METRICS[name]
                if quantile(aggregate) is not None:
                    return [f"{_grown(metric, labels, window)} >= {self._minimum}"]
                if metric.kind == "derived":
                    counted = METRICS[metric.over[1] or metric.over[0]]
                    least = self._minimum if metric.over[1] else 1
                    return [f"{_grown(counted, _known(counted, labels), window)} >= {least}"]
        return []

    def _burn(self, slo: Slo, window: int) -> str:
        """The lower of both: `a <= b or b`."""
        long, short = (_bad_share(slo, seconds) for seconds in (window, max(1, window // BURN_SHORT)))
        budget = digits(1 - slo.objective / 100)
        return f"(({long} <= {short} or {short}) / {budget})"


def _reading(node: Reading) -> str:
    """In the unit that is exported."""
    metric = METRICS[node.metric]
    match metric.kind:
        case "counter":
            grows = _grown if node.aggregate == "delta" else _rate
            return grows(metric, node.labels, node.window_seconds)
        case "gauge":
            now = _now(metric, node.labels)
            return (
                now
                if node.aggregate == "last"
                else f"{node.aggregate}_over_time({now}[{node.window_seconds}s:])"
            )
        case "histogram":
            return _values(metric, node)
    above, below = (METRICS[name] if name else None for name in metric.over)
    assert above is not None
    rate = _rate(above, _known(above, node.labels), node.window_seconds)
    if below is None:
        return rate
    return f"{rate} / {_rate(below, _known(below, node.labels), node.window_seconds)}"


def _values(metric: Metric, node: Reading) -> str:
    """Of a histogram."""
    labels, window = node.labels, node.window_seconds
    match node.aggregate:
        case "count":
            return _grown(metric, labels, window)
        case "rate":
            return _rate(metric, labels, window)
        case "sum":
            return f"sum(increase({_series(metric, labels, '_sum')}[{window}s]))"
        case "avg":
            total = f"sum(rate({_series(metric, labels, '_sum')}[{window}s]))"
            return f"{total} / {_rate(metric, labels, window)}"
    share = {"min": 0.0, "max": 1.0}.get(node.aggregate, quantile(node.aggregate) or 0.0)
    buckets = f"sum by (le) (rate({_series(metric, labels, '_bucket')}[{window}s]))"
    return f"histogram_quantile({digits(share)}, {buckets})"


def _burns(node: Truth | Amount, slo: str) -> bool:
    match node:
        case Burn(name):
            return name == slo
        case Not(operand) | Negative(operand):
            return _burns(operand, slo)
        case Both(left, right) | Either(left, right) | Compare(_, left, right) | Sum(_, left, right):
            return _burns(left, slo) or _burns(right, slo)
    return False


def _scaled(written: str, node: Reading) -> str:
    """From the exported unit to the one that is compared."""
    subject = SUBJECTS[node.metric]
    if node.dimension != subject.dimension:
        return written
    source = METRICS[subject.metric.over[0]] if subject.metric.kind == "derived" else subject.metric
    factor = subject.factor * subject.metric.factor / exported(source).factor
    return written if abs(factor - 1) < 1e-9 else f"({written}) * {digits(factor)}"


def _bad_share(slo: Slo, window: int) -> str:
    labels: Labels = (("model", slo.model),) if slo.model else ()
    if not slo.latency_ms:
        return f"({_rate(METRICS['errors'], labels, window)} / {_rate(METRICS['requests'], labels, window)})"
    metric = METRICS["response_time"]
    limit = digits(_bound(slo))
    good = f"sum(rate({_series(metric, (*labels, ('le', limit)), '_bucket')}[{window}s]))"
    return f"(1 - {good} / {_rate(metric, labels, window)})"


def _bound(slo: Slo) -> float:
    """The bucket's bound that is exported and stands in for an objective's latency: the next one below."""
    return max((bound for bound in TIME_BOUNDS if bound <= slo.latency_ms / 1000), default=TIME_BOUNDS[0])


def _rate(metric: Metric, labels: Labels, window: int) -> str:
    return f"sum(rate({_series(metric, labels)}[{window}s]))"


def _grown(metric: Metric, labels: Labels, window: int) -> str:
    return f"sum(increase({_series(metric, labels)}[{window}s]))"


def _now(metric: Metric, labels: Labels) -> str:
    return f"{metric.combine}({_series(metric, labels)})"


def _seen(metric: Metric, labels: Labels, window: int) -> str:
    if metric.kind == "gauge":
        return f"sum(count_over_time({_series(metric, labels)}[{window}s]))"
    counted = METRICS[metric.over[1] or metric.over[0]] if metric.kind == "derived" else metric
    return _grown(counted, _known(counted, labels), window)


def _series(metric: Metric, labels: Labels, part: str = "") -> str:
    """A selector; of a histogram its count unless told."""
    name = exported(metric).prometheus
    if metric.kind == "counter":
        name += "_total"
    elif metric.kind == "histogram":
        name += part or "_count"
    given = dict(labels)
    if "source" in metric.labels:
        given.setdefault("source", "gateway")
    inside = ",".join(f"{label}={json.dumps(value, ensure_ascii=False)}" for label, value in given.items())
    return f"{name}{{{inside}}}" if inside else name


def _known(metric: Metric, labels: Labels) -> Labels:
    return tuple(each for each in labels if each[0] in metric.labels)
