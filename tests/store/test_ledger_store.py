"""The ledger's file: what is written is there, newest first, after a restart too."""

from pathlib import Path

import apsw
from hypothesis import given
from hypothesis import strategies as st

from slipstream.store import migrations
from slipstream.store.ledger import SCHEMA, Entry, LedgerStore

AMOUNTS = st.none() | st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(st.text(max_size=20), AMOUNTS, AMOUNTS), max_size=6))
def test_what_is_written_comes_back(
    tmp_path_factory: object, told: list[tuple[str, float | None, float | None]]
) -> None:
    """Every field, whatever text and numbers it holds."""
    path = Path(tmp_path_factory.mktemp("ledger")) / "doctor.db"  # type: ignore[attr-defined]
    entries = [
        Entry(
            wall_ns=at,
            kind="k",
            subject=text,
            setting="s",
            before="1",
            after="2",
            predicted_p95=p,
            actual_gain=g,
        )
        for at, (text, p, g) in enumerate(told)
    ]
    store = LedgerStore(path)
    for each in entries:
        store.add(each)
    store.close()
    again = LedgerStore(path)

    assert again.entries() == entries[::-1]
    assert again.entries(1) == entries[::-1][:1]
    again.close()


def test_one_that_is_tried_is_written_over_by_what_came_of_it(tmp_path: Path) -> None:
    """Its row is found by its number until then; removed, nothing is left; its file deleted, it is added."""
    path = tmp_path / "doctor.db"
    store = LedgerStore(path)
    begun = Entry(wall_ns=1, kind="k", subject="a", setting="s", before="1", after="2", state="applying")
    kept = Entry(wall_ns=2, kind="k", subject="a", setting="s", before="1", after="2", state="kept")
    first, second = store.add(begun), store.add(begun)
    assert store.unfinished() == [(second, begun), (first, begun)]
    store.replace(second, kept)
    store.remove(first)

    assert (store.unfinished(), store.entries()) == ([], [kept])
    path.unlink()
    store.replace(second, kept)
    assert store.entries() == [kept]
    store.close()


def test_an_older_file_keeps_its_rows(tmp_path: Path) -> None:
    """Written by the first schema, read by this one; then it holds the states that are new."""
    path = tmp_path / "doctor.db"
    older = migrations.Schema(SCHEMA.kind, SCHEMA.application_id, SCHEMA.scripts[:1])
    connection = apsw.Connection(str(path))
    migrations.begin(connection, older)
    connection.execute(
        "INSERT INTO advices (wall_ns, kind, subject, setting, before, after, state, gain_low, actual_high)"
        " VALUES (7, 'k', 'a', 's', '1', '2', 'rolled back', 0.25, 0.5)"
    )
    connection.close()
    store = LedgerStore(path)
    old = Entry(wall_ns=7, kind="k", subject="a", setting="s", before="1", after="2", state="rolled back",
                gain_low=0.25, actual_high=0.5)  # fmt: skip
    assert store.entries() == [old]
    new = Entry(wall_ns=8, kind="k", subject="a", setting="s", before="1", after="2", state="interrupted")
    store.add(new)

    assert store.entries() == [new, old]
    store.close()
