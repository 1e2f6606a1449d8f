"""Time series on disk: exact roll-ups, retention, the size cap, and what bad luck leaves of them."""

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipstream.core.histogram import decode, sketch_of
from slipstream.store.series import SERIES_MAX, TIERS, Row, SeriesStore, merge, stepped

DAY = 86_400
NOW = 1_800_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SeriesStore]:
    opened = SeriesStore(tmp_path / "metrics.db")
    yield opened
    opened.close()


def row(at: int, *values: float) -> Row:
    """Values as one row, with their sketch."""
    return Row(at, sum(values), len(values), min(values), max(values), sketch_of(values).encode())


def fill(store: SeriesStore, start: int, seconds: int, metric: str = "ttft") -> None:
    """A value each ten seconds: 1000, 1001, …"""
    for at in range(start, start + seconds, 10):
        store.insert([(metric, {"model": "m"}, row(at, 1000.0 + (at - start) / 10))])


def number(store: SeriesStore, metric: str = "ttft") -> int:
    return store.series(metric)[0].number


def test_points_come_back(store: SeriesStore) -> None:
    """What was inserted is found, by time, and nothing outside the range."""
    fill(store, NOW, 100)

    found = store.find(number(store), NOW + 20, NOW + 50, 10)

    assert [each.at for each in found] == [NOW + 20, NOW + 30, NOW + 40]
    assert found[0] == row(NOW + 20, 1002.0)


def test_rolled_up_points_are_exact(store: SeriesStore) -> None:
    """An hour made of minutes made of tens of seconds has the sums, ends and sketch of its values."""
    start = NOW // 3600 * 3600
    fill(store, start, 3600)
    store.roll(start + 3600)

    hour = store.find(number(store), start, start + 3600, 3600)

    values = [1000.0 + place for place in range(360)]
    assert len(hour) == 1
    assert (hour[0].sum, hour[0].count, hour[0].low, hour[0].high) == (sum(values), 360, 1000.0, 1359.0)
    assert hour[0].sketch is not None
    assert decode(hour[0].sketch).buckets == sketch_of(values).buckets


def test_what_is_not_rolled_up_yet_is_told_all_the_same(store: SeriesStore) -> None:
    """A coarse question gets the newest minutes from the finer tier."""
    start = NOW // 3600 * 3600
    fill(store, start, 3660 + 30)
    store.roll(start + 3660)

    rows = store.find(number(store), start, start + 4000, 3600)

    assert sum(each.count for each in rows) == 369


def test_rolling_up_twice_changes_nothing(tmp_path: Path) -> None:
    """After a crash between two steps the same stretch is rolled up again."""
    start = NOW // 3600 * 3600
    for _ in range(2):
        store = SeriesStore(tmp_path / "metrics.db")
        if not store.series("ttft"):
            fill(store, start, 300)
        store.roll(start + 300)
        rows = store.find(number(store), start, start + 300, 60)
        store.close()

        assert [each.count for each in rows] == [6] * 5


def test_a_time_that_comes_again_adds_up(store: SeriesStore) -> None:
    """After the clock was set back nothing is lost: sums and sketches are added."""
    store.insert([("ttft", {}, row(NOW, 1000.0))])
    store.insert([("ttft", {}, row(NOW, 5000.0, 7000.0))])

    found = store.find(number(store), NOW, NOW + 10, 10)[0]

    assert (found.sum, found.count, found.low, found.high) == (13000.0, 3, 1000.0, 7000.0)
    assert found.sketch is not None
    assert decode(found.sketch).count == 3


def test_old_points_go_by_their_tier(store: SeriesStore) -> None:
    """Ten seconds for two days, minutes for a month; what was rolled up stays."""
    fill(store, NOW - 3 * DAY, 600)
    fill(store, NOW - 600, 600)
    store.roll(NOW)
    store.prune(NOW, 10**9)

    fine = store._range(number(store), 10, 0, NOW)
    minutes = store._range(number(store), 60, 0, NOW)
    assert min(each.at for each in fine) == NOW - 600
    assert min(each.at for each in minutes) < NOW - 2 * DAY


def test_the_file_has_a_size(store: SeriesStore) -> None:
    """Over the cap the oldest points of the finest tier go first; the newest stay."""
    batch = 500
    for start in range(0, 4000, batch):
        store.insert(
            [("ttft", {"model": str(place % 10)}, row(NOW + at * 10, *range(1000, 4000, 97)))
             for place, at in enumerate(range(start, start + batch))]
        )  # fmt: skip
    now = NOW + 40_000
    before = store.used_bytes()
    deleted = store.prune(now, before // 2)

    assert deleted > 0
    assert store.used_bytes() <= before // 2 + 65536
    assert store._oldest(10) is not None
    assert store._oldest(10) > NOW  # type: ignore[operator]
    newest = max(
        each.at for series in store.series("ttft") for each in store._range(series.number, 10, 0, now)
    )
    assert newest == NOW + 39_990


def test_series_are_bounded(store: SeriesStore) -> None:
    """More series than there may be are refused and counted, in one look."""
    rows = [("tokens_input", {"model": str(place)}, row(NOW, 1.0)) for place in range(SERIES_MAX + 3)]

    assert store.insert(rows) == 3


def test_a_damaged_sketch_costs_itself_only(store: SeriesStore) -> None:
    """Roll-ups go on without it."""
    start = NOW // 60 * 60
    store.insert([("ttft", {}, row(start, 1000.0))])
    store.insert([("ttft", {}, Row(start + 10, 2000.0, 1, 2000.0, 2000.0, b"garbage\xff"))])
    store.roll(start + 60)

    minute = store._range(number(store), 60, start, start + 60)[0]
    assert (minute.sum, minute.count) == (3000.0, 2)
    assert minute.sketch is not None
    assert decode(minute.sketch).count == 1


def test_sketches_of_other_bounds_are_not_taken_for_ours(tmp_path: Path) -> None:
    """A file from before the buckets were a second's powers of two keeps its points, not its sketches."""
    path = tmp_path / "metrics.db"
    older = SeriesStore(path)
    fill(older, NOW, 60)
    older.close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 1)
    connection.close()

    newer = SeriesStore(path)
    rows = newer.find(number(newer), NOW, NOW + 60, 10.0)
    newer.close()

    assert [each.count for each in rows] == [1.0] * 6
    assert {each.sketch for each in rows} == {None}


def test_a_deleted_file_is_begun_anew(tmp_path: Path) -> None:
    """Somebody removed it while it was open: the next batch is stored in a new one."""
    store = SeriesStore(tmp_path / "metrics.db")
    fill(store, NOW, 20)
    for path in tmp_path.glob("metrics.db*"):
        path.unlink()

    store.insert([("ttft", {"model": "m"}, row(NOW + 20, 1.0))])

    assert len(store.find(number(store), NOW, NOW + 100, 10)) == 1
    store.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.lists(st.floats(1.0, 1e6), min_size=1, max_size=4)), max_size=30
    )
)
def test_steps_lose_nothing(parts: list[tuple[int, list[float]]]) -> None:
    """However rows are cut into steps, their sums, counts and sketches add up."""
    rows = [row(NOW + at * 10, *values) for at, values in parts]

    steps = list(stepped(rows, NOW - 7, 60.0))

    every = [value for _, values in parts for value in values]
    assert sum(each.count for each in steps) == len(every)
    assert math.isclose(sum(each.sum for each in steps), sum(every), rel_tol=1e-9)
    if rows:
        sketch = merge(steps, 0).sketch
        assert sketch is not None
        assert decode(sketch).buckets == sketch_of(every).buckets


def test_tiers_are_made_of_each_other() -> None:
    """Each tier is a whole number of the one before and is kept longer."""
    for (fine, fine_kept), (coarse, coarse_kept) in pairwise(TIERS):
        assert coarse % fine == 0
        assert fine_kept > coarse
        assert coarse_kept > fine_kept
