"""Where a request's time went: the parts add up, and belong where they are put."""

from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.record import Record, Step
from slipstream.doctor.times import gap_of, parts_of, quantile, visits

MS = 1_000_000
NAMES = st.sampled_from(
    ["admit", "read", "select", "open", "first_byte", "relay", "queue", "wait", "back_off", "x"]
)
TIMES = st.integers(0, 10_000)


@given(st.lists(st.tuples(NAMES, TIMES, TIMES), max_size=12), TIMES, st.booleans())
def test_parts_add_up(steps: list[tuple[str, int, int]], duration: int, answered: bool) -> None:
    """Whatever the steps say, to the nanosecond, and none is negative."""
    record = Record(
        duration_ns=duration, steps=[Step(*step) for step in steps], first_byte_ns=1 if answered else None
    )
    parts = parts_of(record)
    each = [getattr(parts, name) for name in parts.__struct_fields__]

    assert sum(each) == duration
    assert min(each) >= 0


def test_a_retried_request() -> None:
    """The first attempt failed, the second queued: each part is told apart."""
    record = Record(
        arrived_wall_ns=0,
        duration_ns=200 * MS,
        status=200,
        upstream="b",
        first_byte_ns=110 * MS,
        steps=[
            Step("admit", 0, 1 * MS),
            Step("open", 1 * MS, 9 * MS),
            Step("back_off", 10 * MS, 20 * MS),
            Step("open", 30 * MS, 70 * MS),
            Step("queue", 31 * MS, 40 * MS),
            Step("first_byte", 100 * MS, 10 * MS),
            Step("relay", 110 * MS, 85 * MS),
        ],
    )
    parts = parts_of(record)

    assert (parts.failed, parts.waiting, parts.queue) == (9 * MS, 20 * MS, 40 * MS)
    assert (parts.first, parts.rest, parts.gateway) == (40 * MS, 85 * MS, 6 * MS)
    assert gap_of(record) == (195 * MS, 200 * MS)


def at_upstream(start_ms: int, end_ms: int) -> Record:
    length = (end_ms - start_ms) * MS
    steps = [Step("open", 0, length)]
    return Record(arrived_wall_ns=start_ms * MS, duration_ns=length, upstream="a", steps=steps)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=20))
def test_who_was_there_together(spans: list[tuple[int, int]]) -> None:
    """As many as a plain count of overlapping visits says."""
    records = [at_upstream(start, start + length) for start, length in spans]
    for visit in visits(records):
        begun = records[visit.index].arrived_wall_ns
        there = [
            each
            for each in records
            if each.arrived_wall_ns <= begun < each.arrived_wall_ns + each.duration_ns
        ]
        assert visit.together == len(there)


def test_quantiles_lie_between_neighbours() -> None:
    """Linear between the two nearest; nothing is zero."""
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([7.0], 0.95) == 7.0
    assert quantile([], 0.5) == 0.0
