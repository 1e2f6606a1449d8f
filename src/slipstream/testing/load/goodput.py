"""Service level objectives: which requests were good enough to count. A request that failed never is."""

import re
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipstream.core.errors import BadRequest
from slipstream.testing.load.quantity import milliseconds
from slipstream.testing.load.samples import NEVER, Samples

Measure = Literal["response", "service", "ttft", "ttft_response", "itl", "tpot", "e2e"]
MEASURES: tuple[str, ...] = get_args(Measure)
OBJECTIVES_MAX = 8

_WRITTEN = re.compile(r"\s*([a-z0-9_]+)\s*(<=?|:|=)\s*(.+)")


class Objective(Struct, frozen=True):
    """A bound that each request has to keep."""

    measure: Measure
    bound_ms: float

    def __str__(self) -> str:
        return f"{self.measure}<={self.bound_ms:g}ms"


def objective(text: str) -> Objective:
    """`ttft<500ms`, `itl<=50ms`, `response<2s` as an objective. Raises `BadRequest`."""
    found = _WRITTEN.fullmatch(text)
    measure = next((each for each in get_args(Measure) if found and each == found[1]), None)
    if found is None or measure is None:
        raise BadRequest(
            f"`{text[:60]}` is no objective.",
            hint=f"Write it like ttft<500ms; what can be bounded: {', '.join(MEASURES)}.",
        )
    bound = milliseconds(found[3])
    if bound <= 0:
        raise BadRequest(f"`{text[:60]}` cannot be kept.", hint="The bound must be more than 0.")
    return Objective(measure, bound)


def objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Several of them, each measure once. Raises `BadRequest`."""
    found = tuple(objective(text) for text in texts)
    if len({each.measure for each in found}) < len(found) or len(found) > OBJECTIVES_MAX:
        raise BadRequest("Objectives contradict each other.", hint="Bound each measure once.")
    return found


def good(samples: Samples, wanted: Sequence[Objective]) -> NDArray[np.bool_]:
    """Which requests got a whole answer and kept every objective, one truth a request.

    What a request does not have (a time between tokens where there is one token) it keeps; a time to
    first token it must have.
    """
    kept: NDArray[np.bool_] = samples.ok
    for each in wanted:
        times = measured_ms(samples, each.measure)
        missing = np.isnan(times)
        allowed = missing if each.measure in {"itl", "tpot"} else np.zeros_like(missing)
        with np.errstate(invalid="ignore"):
            kept = kept & (allowed | (times <= each.bound_ms))
    return kept


def measured_ms(samples: Samples, measure: Measure) -> NDArray[np.float64]:
    """A measure of each request in ms, NaN where it has none. docs/load-testing.md defines them."""
    if measure in {"itl", "tpot"}:
        each: NDArray[np.float64] = samples.itl_ns / 1e6
        return each
    if measure == "response":
        return _milliseconds(samples.response_ns)
    if measure == "service":
        return _milliseconds(samples.service_ns)
    if measure == "ttft_response":
        return _milliseconds(samples.ttft_ns)
    if measure == "ttft":
        return _milliseconds(samples.service_ttft_ns)
    known = (samples.last_content_ns >= 0) & (samples.sent_ns >= 0)
    return _milliseconds(np.where(known, samples.last_content_ns - samples.sent_ns, NEVER))


def _milliseconds(times: NDArray[np.int64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.where(times >= 0, times / 1e6, np.nan)
    return out
