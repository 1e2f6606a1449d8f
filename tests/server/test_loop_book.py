"""What is remembered of event loops: whose stall held up which request, within bounds, and what is not known."""

import time

import pytest

from slipstream.core.record import Record, Step
from slipstream.profiling.recorded import StepsReport, steps_report
from slipstream.profiling.stalls import Stall
from slipstream.server import loop_book
from slipstream.server.loop_book import LoopBook
from slipstream.store.rows import to_row

MS = 1_000_000


def book(processes: int, *, is_watched: bool = True) -> LoopBook:
    """One of a server with so many workers."""
    return LoopBook(lambda: processes, is_watched=is_watched, pooled=tuple)


def request(name: str, *, arrived_ns: int | None = None) -> Record:
    """It comes in a moment and is with its upstream for 100 ms."""
    arrived_ns = arrived_ns or time.time_ns() + 1_000 * MS
    steps = [Step("relay", 0, 100 * MS)]
    return Record(id=name, arrived_wall_ns=arrived_ns, duration_ns=100 * MS, steps=steps)


def held_up(record: Record) -> Stall:
    """The loop stands still for the later half of it."""
    return Stall(record.arrived_wall_ns + 100 * MS, 0.05, (), "req_burner", None)


def told(seen: LoopBook, *records: Record) -> StepsReport:
    """The report with what the book knows."""
    return steps_report(records, surroundings=seen.surroundings())


def test_a_stall_is_told_of_the_requests_of_its_worker() -> None:
    """Of two at the same time, on two workers, one waited for the loop."""
    seen, record = book(2), request("req_1")
    beside = request("req_2", arrived_ns=record.arrived_wall_ns)
    seen.served("worker 0", [to_row(record)])
    seen.served("worker 1", [to_row(beside)])
    seen.stalled("worker 1", held_up(record))

    assert told(seen, record).waits == {"upstream": 1.0}
    assert told(seen, beside).waits == pytest.approx({"loop": 0.5, "upstream": 0.5})
    assert told(seen, record, beside).unplaced == 0


def test_a_single_worker_served_all() -> None:
    """Nothing need be kept of its requests."""
    seen, record = book(1), request("req_1")
    seen.stalled("worker 0", held_up(record))

    assert told(seen, record).waits["loop"] == pytest.approx(0.5)


def test_of_requests_before_the_server_nothing_is_known() -> None:
    """Records outlive a server, what it saw of its loops does not; that is counted."""
    seen = book(1)

    assert told(seen, request("req_1"), request("req_2", arrived_ns=time.time_ns() - 10**12)).unplaced == 1


def test_where_nobody_watches_nothing_is_known() -> None:
    """`profiling.stalls` is off."""
    assert told(book(1, is_watched=False), request("req_1")).unplaced == 1


def test_what_is_forgotten_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest stalls and the oldest requests go; whoever they concern is counted."""
    monkeypatch.setattr(loop_book, "HELD_MAX", 1)
    monkeypatch.setattr(loop_book, "PLACED_MAX", 2)
    seen = book(2)
    first = request("req_1")
    later = [request(f"req_{at}", arrived_ns=first.arrived_wall_ns + at * 1_000 * MS) for at in (2, 3)]
    for each in (first, *later):
        seen.served("worker 0", [to_row(each)])
    assert [told(seen, each).unplaced for each in (first, *later)] == [1, 0, 0]
    seen.stalled("worker 0", held_up(later[0]))
    seen.stalled("worker 0", held_up(later[1]))

    assert [told(seen, each).unplaced for each in (first, *later)] == [1, 1, 0]
    assert told(seen, later[1]).waits["loop"] == pytest.approx(0.5)
