"""Thresholds on a result: `p95 > 800ms` fails a run. A closed grammar, nothing is evaluated.

threshold := figure operator number [unit]
figure    := [measure "."] (mean | p50 | p75 | p90 | p95 | p99 | p99.9 | max) | rate-like figure
operator  := > | >= | < | <=
"""

import re
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from slipstream.core.errors import BadRequest
from slipstream.testing.load.quantity import MILLISECONDS
from slipstream.testing.load.stats import Figure

STATISTICS = ("mean", "p50", "p75", "p90", "p95", "p99", "p99.9", "max")
LATENCIES = ("response", "service", "ttft", "ttft_response", "itl", "gap", "e2e")
SHARES = ("error_rate", "rate_limited_rate", "timeout_rate", "good_share", "delivered_share")
PLAIN = ("throughput", "goodput", "output_tokens_per_second", "requests", "errors")
THRESHOLDS_MAX = 50

Operator = Literal[">", ">=", "<", "<="]
Verdict = Literal["kept", "broken", "unknown"]

_WRITTEN = re.compile(r"\s*([a-z][a-z0-9_.]*?)\s*(>=|<=|>|<)\s*(\d+(?:\.\d+)?)\s*([a-z%/]*)\s*")


class Threshold(Struct, frozen=True):
    """A run fails if `figure operator bound`; the bound in ms, percent, or the figure's own unit."""

    figure: str
    operator: Operator
    bound: float
    text: str


class Outcome(Struct, frozen=True):
    """What became of a threshold."""

    text: str
    verdict: Verdict
    value: float | None
    said: str
    """For people: the value, or why there is none."""

    @property
    def fails(self) -> bool:
        """Whether the run fails by it; one that cannot be decided does not pass silently."""
        return self.verdict != "kept"


def threshold(text: str) -> Threshold:
    """Read one. Raises `BadRequest` that says what is allowed where."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise BadRequest(
            f"`{text[:80]}` is no threshold.", hint="Write it like p95 > 800ms or error_rate > 1%."
        )
    name, operator, number, unit = found.groups()
    figure = name if "." in name or name not in STATISTICS else f"response.{name}"
    if name == "p99.9":
        figure = "response.p99.9"
    measure, _, statistic = figure.partition(".")
    if measure in LATENCIES and statistic in STATISTICS:
        bound = float(number) * _unit(unit, MILLISECONDS, "ms", text)
    elif figure in SHARES:
        bound = float(number) * _unit(unit, {"%": 1.0}, "%", text)
    elif figure in PLAIN:
        bound = float(number) * _unit(unit, {"": 1.0, "/s": 1.0}, "", text)
    else:
        raise BadRequest(
            f"`{name}` in `{text[:80]}` is no figure of a load test.",
            hint=f"There are {', '.join(STATISTICS)}, each also of {', '.join(LATENCIES[1:])} (as ttft.p95), "
            f"and {', '.join((*SHARES, *PLAIN))}.",
        )
    return Threshold(figure, _operator(operator), bound, text.strip())


def thresholds(texts: Sequence[str]) -> tuple[Threshold, ...]:
    """Read several. Raises `BadRequest`."""
    if len(texts) > THRESHOLDS_MAX:
        raise BadRequest(f"More than {THRESHOLDS_MAX} thresholds.", hint="Keep those that matter.")
    return tuple(threshold(text) for text in texts)


def judge(asked: Threshold, value: Figure | None) -> Outcome:
    """Whether a figure breaks a threshold; one with too few samples is not judged."""
    if value is None or not value.reliable:
        count = 0 if value is None else value.samples
        return Outcome(asked.text, "unknown", None, f"cannot say: {count} samples are too few")
    number = float(value)
    broken = {
        ">": number > asked.bound,
        ">=": number >= asked.bound,
        "<": number < asked.bound,
        "<=": number <= asked.bound,
    }[asked.operator]
    return Outcome(asked.text, "broken" if broken else "kept", number, f"it is {value}")


def _unit(unit: str, units: dict[str, float], bare: str, text: str) -> float:
    if (unit or bare) not in units:
        allowed = ", ".join(each or "no unit" for each in units)
        raise BadRequest(f"`{unit}` in `{text[:80]}` is no unit of that figure.", hint=f"Allowed: {allowed}.")
    return units[unit or bare]


def _operator(text: str) -> Operator:
    if text == ">":
        return ">"
    if text == ">=":
        return ">="
    return "<" if text == "<" else "<="
