"""Recorded requests in the formats of other tools: they happened when and as their records say."""

from typing import Any

import msgspec

from slipstream.core.record import Record, Step
from slipstream.profiling.exports import to_chrome_trace, to_collapsed, to_otlp, to_speedscope
from slipstream.profiling.recorded import trace_of

MS = 1_000_000
ARRIVED_NS = 1_700_000_000_123_456_789


def record(*, arrived_ns: int = ARRIVED_NS, first_token_ns: int | None = None) -> Record:
    """A request of 30 ms that waits for its model from the fifth to the twentieth."""
    return Record(
        id="req_1",
        route="chat/completions",
        arrived_wall_ns=arrived_ns,
        duration_ns=30 * MS,
        first_token_ns=first_token_ns,
        steps=[Step("first_byte", 5 * MS, 15 * MS)],
    )


def otlp_spans(body: bytes) -> list[dict[str, Any]]:
    """The spans of an export."""
    spans: list[dict[str, Any]] = msgspec.json.decode(body)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    return spans


def test_spans_lie_at_the_time_of_their_record() -> None:
    """To the nanosecond, each trace at its own, whenever and wherever it is exported."""
    later = record(arrived_ns=ARRIVED_NS + 10**15)
    spans = otlp_spans(to_otlp([trace_of(record()), trace_of(later)]))

    assert [(int(each["startTimeUnixNano"]), int(each["endTimeUnixNano"])) for each in spans] == [
        (start_ns, start_ns + length_ns)
        for arrived_ns in (ARRIVED_NS, ARRIVED_NS + 10**15)
        for start_ns, length_ns in ((arrived_ns, 30 * MS), (arrived_ns + 5 * MS, 15 * MS))
    ]


def test_the_first_token_is_an_event_of_the_request() -> None:
    """OTLP: an event of the root span, at its wall time; no other span has one."""
    root, step = otlp_spans(to_otlp([trace_of(record(first_token_ns=20 * MS))]))

    assert root["events"] == [{"timeUnixNano": str(ARRIVED_NS + 20 * MS), "name": "first item"}]
    assert step["events"] == []


def test_the_first_token_is_an_instant_in_its_lane() -> None:
    """Chrome and Perfetto: microseconds since the request came, where the request's own bar lies."""
    events = msgspec.json.decode(to_chrome_trace([trace_of(record(first_token_ns=20 * MS))]))["traceEvents"]
    instants = [each for each in events if each["ph"] == "i"]
    root = next(each for each in events if each["ph"] == "X")

    assert instants == [
        {"ph": "i", "s": "t", "name": "first item", "pid": 0, "tid": root["tid"], "ts": 20_000.0}
    ]


def test_without_a_first_token_there_is_no_event() -> None:
    """An answer that was not streamed, or never began."""
    trace = trace_of(record())

    assert all(each["events"] == [] for each in otlp_spans(to_otlp([trace])))
    assert b'"ph":"i"' not in to_chrome_trace([trace])


def test_stacks_are_as_without_a_first_token() -> None:
    """Speedscope and collapsed stacks know stretches only."""
    told, untold = trace_of(record(first_token_ns=20 * MS)), trace_of(record())

    assert to_speedscope([told]) == to_speedscope([untold])
    assert to_collapsed([told]) == to_collapsed([untold])
