"""The ledger's file: what is written is there, newest first, after a restart too."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slipstream.store.ledger import Entry, LedgerStore

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
