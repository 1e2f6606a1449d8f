"""The record of a request: its steps, and that it stops when it is closed."""

import msgspec

from slipstream.core import clock
from slipstream.core.errors import LimitReached, UpstreamFailed
from slipstream.core.record import QUEUE, STEPS_MAX, Record, open_record


class Ticks:
    """A clock that is moved by hand."""

    now = 1_000

    def __call__(self) -> int:
        return self.now


def test_steps_are_timed_from_arrival() -> None:
    """A step holds when it began after the arrival and how long it took, in nanoseconds."""
    ticks = Ticks()
    with clock.driven_by(ticks):
        record = open_record(route="x")
        ticks.now += 5
        with record.step("one"):
            ticks.now += 7
        record.close()
    (step,) = record.steps
    assert (step.name, step.start_ns, step.duration_ns, record.duration_ns) == ("one", 5, 7, 12)


def test_closing_ends_what_is_open_and_refuses_more() -> None:
    """Whoever unwinds after the record was closed changes nothing in it any more."""
    ticks = Ticks()
    with clock.driven_by(ticks):
        record = open_record(route="x")
        with record.step("open"):
            ticks.now += 3
            record.close()
            ticks.now += 100
            with record.step("late"):
                ticks.now += 1
    assert [(step.name, step.duration_ns) for step in record.steps] == [("open", 3)]
    assert record.steps_dropped == 1


def test_steps_are_bounded() -> None:
    """A record keeps its first steps and counts the others."""
    record = open_record(route="x")
    for _ in range(STEPS_MAX + 3):
        with record.step("again"):
            pass
    assert (len(record.steps), record.steps_dropped) == (STEPS_MAX, 3)


def test_an_outcome_names_who_must_act() -> None:
    """A limit or a bad request is refused, an upstream's fault is failed, and no word is aborted."""
    record = open_record(route="x")
    assert record.outcome == "aborted"
    record.fail(LimitReached("no"))
    assert (record.outcome, record.status) == ("refused", 429)
    record.fail(UpstreamFailed("no"))
    assert (record.outcome, record.status) == ("failed", 502)


def test_a_record_crosses_processes_whole() -> None:
    """Encoded and decoded it is the same, and its monotonic origin stays behind."""
    record = open_record(route="chat/completions")
    with record.step("admit"):
        pass
    record.prompt_tokens = 3
    record.close()
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Record)
    assert copy == record
    assert copy.origin_ns == 0


def test_who_leaves_while_waiting_has_waited() -> None:
    """The wait for a slot counts whether it ended in a slot, with the client, or with a deadline."""
    ticks = Ticks()
    with clock.driven_by(ticks):
        left, late, served = (open_record(route="x") for _ in range(3))
        with left.step(QUEUE):
            with late.step(QUEUE), served.step(QUEUE):
                ticks.now += 5
            served.queue_wait_ns = 4
            ticks.now += 2
            left.close()
        late.close()
        served.close()
    assert (left.queue_wait_ns, late.queue_wait_ns, served.queue_wait_ns) == (7, 5, 4)
