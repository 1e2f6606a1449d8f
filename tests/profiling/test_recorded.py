"""Recorded requests told by the profilers: their steps nest, add up, and the slow ones have a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.record import Record, Step
from slipstream.profiling.critical_path import critical_path
from slipstream.profiling.recorded import SlowRequest, steps_report, trace_of

MS = 1_000_000


def record(number: int, queue_ms: int, model_ms: int) -> Record:
    """A request that waits for a slot, then for the model, whose prompt is a part of that."""
    total = 2 + queue_ms + model_ms
    return Record(
        id=f"req_{number}",
        route="chat/completions",
        duration_ns=total * MS,
        steps=[
            Step("admit", 0, MS),
            Step("queue", MS, queue_ms * MS),
            Step("first_byte", (1 + queue_ms) * MS, model_ms * MS),
            Step("prompt", (1 + queue_ms) * MS, model_ms * MS // 2),
        ],
    )


def test_a_part_of_a_step_lies_within_it() -> None:
    """`prompt` is a child of `first_byte`; the request itself is the root."""
    root = trace_of(record(1, 3, 10)).root

    assert [child.name for child in root.children] == ["admit", "queue", "first_byte"]
    assert [child.name for child in root.children[2].children] == ["prompt"]
    assert root.duration_ns == 15 * MS


TIMES = st.tuples(st.sampled_from("abcd"), st.integers(-5, 100), st.integers(-1, 100))


@given(st.integers(0, 80), st.lists(TIMES, max_size=12))
def test_the_critical_path_of_any_record_adds_up(duration: int, steps: list[tuple[str, int, int]]) -> None:
    """Whatever the steps say, also of times outside of the request, the segments are its duration."""
    root = trace_of(Record(duration_ns=duration, steps=[Step(*each) for each in steps])).root

    assert sum(segment.duration_ns for segment in critical_path(root)) == duration


def test_the_step_that_makes_slow_requests_slow_is_named() -> None:
    """The queue, not the model, which is always long."""
    records = [record(at, 200 if at % 10 == 0 else 1, 100) for at in range(100)]
    report = steps_report(records)
    rows = {row.step: row for row in report.rows}

    assert report.bottleneck == "queue"
    assert rows["first_byte"].total_ms > rows["queue"].total_ms
    assert rows["queue"].tail_variance == pytest.approx(1.0)
    assert sum(row.tail_variance for row in report.rows) == pytest.approx(1.0)
    assert sum(row.share for row in report.rows) == pytest.approx(1.0)
    assert sum(report.waits.values()) == pytest.approx(1.0)
    assert report.p95_ms == pytest.approx(302)


def test_the_slowest_requests_are_named() -> None:
    """Ten of them, slowest first, with what tells one from another."""
    records = [
        Record(
            id=f"req_{at}", duration_ns=(at * 7 % 30) * MS, arrived_wall_ns=at * 10**9,
            model_asked="auto", model="sim" if at % 2 else "", outcome="served",
        )
        for at in range(30)
    ]  # fmt: skip
    slowest = steps_report(records).slowest

    assert [each.duration_ms for each in slowest] == [29, 28, 27, 26, 25, 24, 23, 22, 21, 20]
    at = next(at for at in range(30) if at * 7 % 30 == 29)
    assert slowest[0] == SlowRequest(f"req_{at}", float(at), 29.0, "sim" if at % 2 else "auto", "served")


def test_without_requests_there_is_no_table() -> None:
    """Nothing recorded is said, not made up."""
    report = steps_report([])

    assert (report.requests, report.rows, report.bottleneck, report.p50_ms) == (0, (), "", None)
    assert report.reason == "nothing recorded"


def with_route(number: int, route: str, own_ms: int) -> Record:
    """A request that is in one step for 50 ms and in none for `own_ms`."""
    step = Step("open", 0, 50 * MS)
    return Record(id=f"req_{number}", route=route, duration_ns=(50 + own_ms) * MS, steps=[step])


def test_own_time_is_that_of_all_requests() -> None:
    """More than a sample holds, of two routes: each row has its own requests and all their time."""
    chats = [with_route(at, "chat/completions", 49) for at in range(1_600)]
    others = [with_route(at, "embeddings", 10) for at in range(400)]
    report = steps_report([*chats, *others])
    rows = {row.step: (row.count, row.total_ms, row.mean_ms) for row in report.rows}

    assert rows == {
        "open": (2_000, 100_000.0, 50.0),
        "chat/completions (own time)": (1_600, 78_400.0, 49.0),
        "embeddings (own time)": (400, 4_000.0, 10.0),
    }
    assert sum(row.share for row in report.rows) == pytest.approx(1.0)


def test_a_route_that_no_sample_holds_has_its_row() -> None:
    """One request in three thousand: it is counted, though shares are told of others."""
    rare = with_route(0, "rerank", 7)
    report = steps_report([with_route(at, "chat/completions", 1) for at in range(3_000)] + [rare])
    rows = {row.step: row for row in report.rows}

    assert (rows["rerank (own time)"].count, rows["rerank (own time)"].total_ms) == (1, 7.0)
