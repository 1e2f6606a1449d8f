"""What a finished request adds to the metrics."""

from typing import cast

import pytest

from slipstream.core.histogram import TINY
from slipstream.core.metrics import INDEX, OTHER, RECORDED
from slipstream.core.record import Outcome, Record, Step
from slipstream.monitoring.recorder import PLANS_MAX, RequestRecorder
from slipstream.monitoring.slab import Slab, private_slab

MS = 1_000_000


def read(slab: Slab, name: str, *labels: str) -> float:
    """A counter, or how many values a histogram has."""
    at = slab.place(name, *labels)
    if RECORDED[INDEX[name]].kind == "histogram":
        return sum(slab.cells[at + 1 : at + 1124])
    return slab.cells[at]


def record(**fields: object) -> Record:
    """A streamed answer that took 100 ms, 7 of them ours."""
    steps = [
        Step("admit", 0, MS),
        Step("wait", MS, 12 * MS),
        Step("open", 13 * MS, 20 * MS),
        Step("first_byte", 33 * MS, 21 * MS),
        Step("relay", 60 * MS, 40 * MS),
    ]
    told: dict[str, object] = {
        "route": "chat", "model": "m", "upstream": "u", "outcome": "served", "duration_ns": 100 * MS,
        "first_token_ns": 60 * MS, "chunk_gap_mean_ns": 2 * MS, "prompt_tokens": 10, "output_tokens": 20,
        "cached_tokens": 4, "cost": 0.25, "steps": steps,
    }  # fmt: skip
    return Record(**cast("dict[str, str]", told | fields))


def test_a_served_request_is_all_there() -> None:
    """Counts, tokens, cost and every latency."""
    slab = private_slab()
    RequestRecorder(slab).finish(record())

    assert read(slab, "requests", "chat", "m", "u") == 1
    assert read(slab, "outcomes", "served") == 1
    assert [read(slab, f"tokens_{kind}", "m") for kind in ("input", "output", "cached")] == [10, 20, 4]
    assert slab.cells[slab.place("prompt_length", "m")] == 10 * TINY
    assert slab.cells[slab.place("answer_length", "m")] == 20 * TINY
    assert read(slab, "cost", "m") == 0.25
    assert read(slab, "cost_unknown", "m") == 0
    assert slab.cells[slab.place("response_time", "gateway", "m")] == 100 * MS
    assert slab.cells[slab.place("ttft", "m")] == 60 * MS
    assert slab.cells[slab.place("itl", "m")] == 2 * MS
    assert slab.cells[slab.place("upstream_time", "u")] == 41 * MS
    assert slab.cells[slab.place("queue_wait")] == 12 * MS
    assert slab.cells[slab.place("gateway_overhead")] == 7 * MS


def test_an_unknown_price_is_no_price() -> None:
    """Cost is not zero where it is not known: it is counted as unknown."""
    slab = private_slab()
    RequestRecorder(slab).finish(record(cost=None))

    assert read(slab, "cost_unknown", "m") == 1
    assert read(slab, "cost", "m") == 0


@pytest.mark.parametrize("outcome", ["served", "failed", "aborted", "hit", "shared"])
def test_whoever_waited_has_a_response_time(outcome: Outcome) -> None:
    """Also those that failed or left: they are the slow ones."""
    slab = private_slab()
    RequestRecorder(slab).finish(record(outcome=outcome))

    assert read(slab, "response_time", "gateway", "m") == 1
    assert read(slab, "outcomes", outcome) == 1


def test_a_refused_request_is_no_error_and_has_no_response_time() -> None:
    """It is counted by what refused it."""
    slab = private_slab()
    RequestRecorder(slab).finish(record(outcome="refused", error_code="limit_reached", upstream="", model=""))

    assert read(slab, "refusals", "limit_reached") == 1
    assert read(slab, "response_time", "gateway", "") == 0
    assert read(slab, "errors", "limit_reached", "", "") == 0


def test_a_failed_request_is_an_error_of_its_type() -> None:
    """By type, model and upstream."""
    slab = private_slab()
    RequestRecorder(slab).finish(record(outcome="failed", error_code="upstream_failed"))

    assert read(slab, "errors", "upstream_failed", "m", "u") == 1


def test_every_request_is_counted_however_many_models_there_are() -> None:
    """Names without end cost no memory without end, and no count."""
    slab = private_slab()
    recorder = RequestRecorder(slab)
    for number in range(PLANS_MAX + 300):
        recorder.finish(record(model=f"m{number}", outcome="failed", error_code=f"e{number}"))
        recorder.finish(record(outcome="refused", error_code=f"e{number}"))

    assert len(recorder._plans) <= PLANS_MAX + 1
    assert len(recorder._errors) <= 256
    assert read(slab, "outcomes", "failed") == PLANS_MAX + 300
    named = sum(read(slab, "errors", f"e{n}", f"m{n}", "u") for n in range(63))
    assert named + read(slab, "errors", OTHER, OTHER, OTHER) == PLANS_MAX + 300


def test_odd_times_break_nothing() -> None:
    """Negative, zero and endless durations go to the ends of the histogram and keep the sum sane."""
    slab = private_slab()
    recorder = RequestRecorder(slab)
    for duration in (-5, 0, 1, 2**50):
        recorder.finish(record(duration_ns=duration))

    assert read(slab, "response_time", "gateway", "m") == 4
    assert slab.cells[slab.place("response_time", "gateway", "m")] == 2**50 + 1
