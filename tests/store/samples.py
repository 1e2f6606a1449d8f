"""Records to store in tests."""

import itertools

from hypothesis import strategies as st

from slipstream.core.record import Record, Step
from slipstream.store.rows import TEXT_MAX

DAY_NS = 86_400 * 1_000_000_000
NOON_NS = 1_790_000_000 * 1_000_000_000

_numbers = itertools.count()


def sample(arrived_wall_ns: int = NOON_NS, **fields: object) -> Record:
    """A record with an id of its own and steps, otherwise as asked."""
    number = next(_numbers)
    record = Record(
        id=f"req_{number:027x}",
        arrived_wall_ns=arrived_wall_ns,
        route="chat/completions",
        model="small",
        key_id="key_1",
        outcome="served",
        status=200,
        duration_ns=1_000_000,
        parameters_hash="f" * 16,
        prompt_hash="0" * 16,
        steps=[Step(name, 10, 20) for name in ("admit", "select", "open", "relay")],
    )
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def samples(count: int, **fields: object) -> list[Record]:
    """Several, a millisecond apart."""
    return [sample(NOON_NS + at * 1_000_000, **fields) for at in range(count)]


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=TEXT_MAX)
_INTEGER = st.integers(-(2**63) + 1, 2**63 - 1)


def _strategy(name: str, default: object) -> st.SearchStrategy[object]:
    if name == "outcome":
        return st.sampled_from(["aborted", "served", "hit", "shared", "refused", "failed"])
    if name == "steps":
        return st.lists(st.builds(Step, _TEXT, _INTEGER, _INTEGER), max_size=8)
    if name == "cost":
        return st.none() | st.floats(allow_nan=False)
    if isinstance(default, str):
        return _TEXT
    if isinstance(default, bool):
        return st.booleans()
    return _INTEGER if isinstance(default, int) else st.none() | _INTEGER


RECORDS = st.builds(
    Record, **{name: _strategy(name, getattr(Record(), name)) for name in Record.__struct_fields__}
)
"""Any record that the types allow, within what `to_row` leaves alone."""
