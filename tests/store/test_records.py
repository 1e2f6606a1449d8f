"""What the record store promises: what goes in comes out, pages are exact, more rows make none slower."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.errors import StoreFailed
from slipstream.core.record import Record, Step
from slipstream.store.records import PAGE_MAX, RecordFilter, RecordStore, page_query
from slipstream.store.rows import TEXT_MAX
from slipstream.store.values import ROW_REFUSED
from store.samples import DAY_NS, NOON_NS, RECORDS, sample, samples


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    store = RecordStore(tmp_path / "records.db")
    yield store
    store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordStore]:
    store = RecordStore(tmp_path_factory.mktemp("shared") / "records.db")
    yield store
    store.close()


ids = itertools.count()


@settings(deadline=None)
@given(record=RECORDS)
def test_what_goes_in_comes_out_equal(shared: RecordStore, record: Record) -> None:
    """Every field, of every record that the types allow."""
    record.id = f"any-{next(ids)}"
    assert shared.insert([record]) == 1
    assert record == shared.get(record.id)


def test_the_columns_are_the_fields_of_a_record(store: RecordStore) -> None:
    """A field that is added to the record needs a migration that adds its column, and its type."""
    columns = store._database.rows("SELECT name, type FROM pragma_table_info('requests')")
    kinds = {str: "TEXT", bool: "INTEGER", int: "INTEGER", list: "BLOB", type(None): "INTEGER"}
    empty = Record()
    wanted = [(name, kinds[type(getattr(empty, name))]) for name in Record.__struct_fields__]
    wanted[Record.__struct_fields__.index("cost")] = ("cost", "REAL")
    assert [("number", "INTEGER"), *wanted] == columns


def test_an_unknown_id_is_none(store: RecordStore) -> None:
    """Not an error: a page may ask for anything."""
    assert store.get("req_unknown") is None


def test_a_batch_may_be_sent_twice(store: RecordStore) -> None:
    """By id: the first one stands, the rest of the batch is taken."""
    first, second = samples(2)
    assert store.insert([first]) == 1
    changed = sample(id=first.id, model="other")
    assert store.insert([changed, second]) == 1
    assert first == store.get(first.id)
    assert store.count() == 2


def test_an_empty_batch_is_fine(store: RecordStore) -> None:
    """It changes nothing."""
    assert store.insert([]) == 0


def test_a_batch_is_all_or_nothing(store: RecordStore) -> None:
    """One that cannot be stored at all takes its batch with it, as a typed error."""
    for wrong in (
        {"status": "not a number"},
        {"stream": "maybe"},
        {"cost": b"1"},
        {"steps": None, "id": None},
    ):
        with pytest.raises(StoreFailed) as failure:
            store.insert([*samples(3), sample(**wrong)])
        assert failure.value.code == ROW_REFUSED
        assert store.count() == 0


def test_what_no_column_holds_is_brought_into_range(store: RecordStore) -> None:
    """A caller's model name or an upstream's token count must not make a record impossible to store."""
    record = sample(
        model_asked="m" * 10_000_000, error_code="\ud800?", prompt_tokens=10**30, cost=float("nan")
    )
    store.insert([record])
    found = store.get(record.id)
    assert found is not None
    assert (
        found.model_asked,
        found.error_code,
        found.prompt_tokens,
        found.cost,
    ) == ("m" * TEXT_MAX, "??", 2**63 - 1, None)


def test_sql_in_a_value_stays_a_value(store: RecordStore) -> None:
    """Values are bound, never pasted."""
    hostile = "'); DROP TABLE requests; --"
    record = sample(id=hostile, model=hostile)
    store.insert([record])
    assert record == store.get(hostile)
    assert [record] == store.recent(10, where=RecordFilter(model=hostile))
    assert store.recent(10, before=hostile) == []


def test_recent_is_newest_first_and_bounded(store: RecordStore) -> None:
    """By arrival, whatever the order in which they were written; the limit itself has limits."""
    records = samples(PAGE_MAX + 5)
    store.insert(list(reversed(records)))
    assert list(reversed(records))[:3] == store.recent(3)
    assert len(store.recent(10**9)) == PAGE_MAX
    assert len(store.recent(-1)) == 1


@settings(deadline=None, max_examples=40)
@given(
    arrivals=st.lists(st.integers(0, 5), min_size=1, max_size=40),
    size=st.integers(1, 7),
    where=st.builds(
        RecordFilter,
        model=st.none() | st.sampled_from("ab"),
        outcome=st.none() | st.sampled_from(["served", "failed"]),
        route=st.none() | st.sampled_from(["chat/completions", "embeddings"]),
        key_id=st.none() | st.sampled_from("kl"),
        min_duration_ns=st.none() | st.integers(0, 10),
        upstream=st.none() | st.sampled_from("uv"),
        since_wall_ns=st.none() | st.integers(0, 5),
        until_wall_ns=st.none() | st.integers(0, 6),
    ),
    data=st.data(),
)
def test_pages_make_up_the_whole_list(
    tmp_path_factory: pytest.TempPathFactory,
    arrivals: list[int],
    size: int,
    where: RecordFilter,
    data: st.DataObject,
) -> None:
    """No record is missing or twice, also where several arrived in the same nanosecond."""
    drawn = data.draw
    records = [
        sample(
            arrived,
            model=drawn(st.sampled_from("ab")),
            outcome=drawn(st.sampled_from(["served", "failed"])),
            route=drawn(st.sampled_from(["chat/completions", "embeddings"])),
            key_id=drawn(st.sampled_from("kl")),
            upstream=drawn(st.sampled_from("uv")),
            duration_ns=drawn(st.integers(0, 10)),
        )
        for arrived in arrivals
    ]
    store = RecordStore(tmp_path_factory.mktemp("pages") / "records.db")
    store.insert(records)
    matching = [record for record in records if matches(record, where)]
    expected = sorted(enumerate(matching), key=lambda pair: (pair[1].arrived_wall_ns, pair[0]), reverse=True)
    found: list[Record] = []
    while page := store.recent(size, before=found[-1].id if found else "", where=where):
        found += page
    store.close()
    assert [record for _, record in expected] == found


def matches(record: Record, where: RecordFilter) -> bool:
    return (
        where.model in {None, record.model}
        and where.outcome in {None, record.outcome}
        and where.route in {None, record.route}
        and where.key_id in {None, record.key_id}
        and record.duration_ns >= (where.min_duration_ns or 0)
        and where.upstream in {None, record.upstream}
        and record.arrived_wall_ns >= (where.since_wall_ns or 0)
        and (where.until_wall_ns is None or record.arrived_wall_ns < where.until_wall_ns)
    )


FILTERS = {
    "requests_by_arrival": [
        RecordFilter(),
        RecordFilter(since_wall_ns=NOON_NS),
        RecordFilter(since_wall_ns=NOON_NS, until_wall_ns=NOON_NS + 5),
        RecordFilter(min_duration_ns=5),
        RecordFilter(upstream="local"),
    ],
    "requests_by_model": [RecordFilter(model="a"), RecordFilter(model="a", since_wall_ns=NOON_NS)],
    "requests_by_outcome": [RecordFilter(outcome="failed")],
    "requests_by_route": [RecordFilter(route="embeddings")],
    "requests_by_key": [RecordFilter(key_id="key_2", min_duration_ns=5)],
}


@pytest.mark.parametrize("before", ["", "req_1"], ids=["first page", "next page"])
@pytest.mark.parametrize("index", FILTERS)
def test_every_page_comes_from_its_index_without_a_sort(store: RecordStore, index: str, before: str) -> None:
    """So that a page costs the same with a million rows as with a thousand."""
    for where in FILTERS[index]:
        sql, bindings = page_query(50, before, where)
        plan = [str(row[3]) for row in store._database.rows("EXPLAIN QUERY PLAN " + sql, bindings)]
        assert any(f"requests USING INDEX {index}" in step for step in plan), plan
        assert not any("TEMP B-TREE" in step or step == "SCAN requests" for step in plan), plan


def test_one_record_is_looked_up_by_its_index(store: RecordStore) -> None:
    """The id's own."""
    plan = store._database.rows("EXPLAIN QUERY PLAN SELECT * FROM requests WHERE id = ?", ("x",))
    assert plan[0][3] == "SEARCH requests USING INDEX sqlite_autoindex_requests_1 (id=?)"


def test_two_filters_use_the_rarer_value(store: RecordStore) -> None:
    """The failures of the only model: by outcome, not by walking through everything the model served."""
    for batch in range(10):
        store.insert([sample(outcome="failed" if at + batch == 0 else "served") for at in range(500)])
    store.optimize()
    sql, bindings = page_query(50, "", RecordFilter(model="small", outcome="failed"))
    plan = str(store._database.rows("EXPLAIN QUERY PLAN " + sql, bindings))
    assert "requests_by_outcome" in plan


def steps_of_sqlite(store: RecordStore, where: RecordFilter, before: str) -> int:
    """How many instructions of SQLite's machine a page takes, in hundreds."""
    counted = 0

    def count() -> bool:
        nonlocal counted
        counted += 1
        return False

    connection: apsw.Connection = store._database._connection
    connection.set_progress_handler(count, 100)
    store.recent(50, before=before, where=where)
    connection.set_progress_handler(None)
    return counted


def check_work_for_a_page(store: RecordStore, sizes: tuple[int, int]) -> None:
    filters = [RecordFilter(), *(where[0] for index, where in FILTERS.items() if "arrival" not in index)]
    work: list[list[int]] = []
    total = 0
    last = ""
    for size in sizes:
        while total < size:
            batch = [
                sample(
                    NOON_NS + (total + at) * 1_000_000,
                    model="ab"[at % 2],
                    outcome="failed" if at % 5 == 0 else "served",
                    route="embeddings" if at % 5 == 1 else "chat/completions",
                    key_id=f"key_{at % 3}",
                    duration_ns=at,
                )
                for at in range(1_000)
            ]
            total += store.insert(batch)
            last = batch[0].id
        work.append([steps_of_sqlite(store, where, last) for where in filters])
    assert all(large <= small + 5 for small, large in zip(*work, strict=True)), work


def test_a_page_takes_no_more_work_with_more_rows(store: RecordStore) -> None:
    """Counted in instructions of SQLite's own machine, not in time."""
    check_work_for_a_page(store, (2_000, 12_000))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_page_takes_no_more_work_with_a_million_rows(store: RecordStore) -> None:
    """The size at which other products' request pages stop working."""
    check_work_for_a_page(store, (2_000, 1_000_000))
    assert store.count() == 1_000_000


def test_pruning_deletes_what_is_too_old(store: RecordStore) -> None:
    """By arrival; what is younger stays."""
    old = [sample(NOON_NS - 3 * DAY_NS + at) for at in range(1_200)]
    young = samples(10)
    store.insert(old + young)
    assert store.prune(1.0, 10**9, NOON_NS + DAY_NS // 2) == 1_200
    assert list(reversed(young)) == store.recent(50)


def test_pruning_stops_at_its_bound(store: RecordStore) -> None:
    """So that whoever prunes can do something else in between."""
    store.insert([sample(1 + at) for at in range(1_200)])
    assert store.prune(1.0, 10**9, NOON_NS, most=700) == 700
    assert store.prune(1.0, 10**9, NOON_NS, most=700) == 500
    assert store.prune(1.0, 10**9, NOON_NS, most=700) == 0


def test_pruning_keeps_the_newest_within_the_size(store: RecordStore, tmp_path: Path) -> None:
    """The oldest go first; the file shrinks, and does not grow again while it is filled and pruned."""
    keep = 1024 * 1024
    records = samples(20_000)
    for at in range(0, 20_000, 1_000):
        store.insert(records[at : at + 1_000])
    size_before = store._database.number("PRAGMA page_count")
    deleted = store.prune(30.0, keep, NOON_NS)
    left = store.count()
    assert deleted == 20_000 - left
    assert left > 500
    assert list(reversed(records[-3:])) == store.recent(3)
    assert records[-left] == store.get(records[-left].id)
    assert store.get(records[-left - 1].id) is None
    size = store._database.number("PRAGMA page_count")
    assert size < size_before // 2
    for _ in range(5):
        store.insert(samples(2_000))
        store.prune(30.0, keep, NOON_NS)
    assert store._database.number("PRAGMA page_count") <= size + 200


def test_pruning_an_empty_store_ends(store: RecordStore) -> None:
    """Even where nothing it could delete would bring the size down."""
    assert store.prune(1.0, 1, NOON_NS) == 0


def test_a_damaged_row_is_a_typed_error(store: RecordStore) -> None:
    """Whatever stands in the file, only a `StoreFailed` comes out."""
    record = sample()
    store.insert([record])
    for change in ("steps = x'ff'", "outcome = 'unheard of'", "model = CAST(x'ff' AS TEXT)"):
        store._database.rows("UPDATE requests SET " + change)
        with pytest.raises(StoreFailed):
            store.get(record.id)


def test_steps_are_stored_compactly(store: RecordStore) -> None:
    """Under 20 bytes a step beside its name: they are most of a row."""
    record = sample(steps=[Step("relay", 10**9, 10**9)] * 10)
    store.insert([record])
    assert store._database.number("SELECT length(steps) FROM requests") < 10 * 20
