"""The advice that was acted on, one row each: what was predicted and what came of it.

It stores and finds; what the rows say of the doctor is computed in `doctor.ledger`.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, structs

from slipstream.store import migrations
from slipstream.store.sqlite import Database, Manner
from slipstream.store.values import Value

SCHEMA = migrations.load("ledger", application_id=0x536C4C67)  # "SlLg"
ENTRIES_MAX = 1_000
"""Most entries that one call returns, the latest."""

State = Literal["applying", "applied", "kept", "rolled back", "interrupted"]
"""`applying` from before the setting is changed until it is known what came of it; `interrupted` where that
process died meanwhile, and it was seen to afterwards."""


class Entry(Struct, frozen=True, kw_only=True):
    """One advice. Times in seconds, throughput in answers a second, cost in dollars a request, gains as
    shares of the p95 saved; None where it is not known.

    `now_*` was recorded, `predicted_*` is what it was to become; `without_*` and `actual_*` were met by the
    load that verified it, without the fix and with it.

    `file` is the settings file that it was written into, `file_before` where that one lies as it was (empty =
    there was none), `written` what was written into it beside the setting: lines of TOML below the same
    table. `note` says what became of a fix that was interrupted.
    """

    wall_ns: int
    kind: str
    subject: str
    setting: str
    before: str
    after: str
    state: State = "applied"
    now_p50: float | None = None
    now_p95: float | None = None
    now_throughput: float | None = None
    now_cost: float | None = None
    predicted_p50: float | None = None
    predicted_p95: float | None = None
    predicted_throughput: float | None = None
    predicted_cost: float | None = None
    predicted_gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    actual_p50: float | None = None
    actual_p95: float | None = None
    actual_throughput: float | None = None
    actual_cost: float | None = None
    actual_gain: float | None = None
    actual_low: float | None = None
    actual_high: float | None = None
    file: str = ""
    file_before: str = ""
    note: str = ""
    without_p50: float | None = None
    without_p95: float | None = None
    without_throughput: float | None = None
    without_cost: float | None = None
    written: str = ""


_FIELDS = Entry.__struct_fields__
_LIST = ", ".join(_FIELDS)
_INSERT = f"INSERT INTO advices ({_LIST}) VALUES ({', '.join('?' * len(_FIELDS))})"  # noqa: S608 (our fields)
_SELECT = f"SELECT {_LIST} FROM advices ORDER BY wall_ns DESC, number DESC LIMIT ?"  # noqa: S608

_REPLACE = f"UPDATE advices SET ({_LIST}) = ({', '.join('?' * len(_FIELDS))}) WHERE number = ?"  # noqa: S608
_REMOVE = "DELETE FROM advices WHERE number = ?"
_UNFINISHED = f"SELECT number, {_LIST} FROM advices WHERE state = 'applying' ORDER BY number DESC LIMIT ?"  # noqa: S608

Limit = Annotated[int, Meta(ge=1, le=ENTRIES_MAX)]


class LedgerStore:
    """The ledger's file. Every method raises `StoreFailed`; opening also `ConfigurationError`."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA, Manner(synchronous="FULL", when_damaged="set aside"))

    def add(self, entry: Entry) -> int:
        """Write down an advice; its number, by which it can be replaced."""
        self._database.refresh()
        with self._database.transaction():
            self._database.run_many(_INSERT, [_values(entry)])
            return self._database.number("SELECT last_insert_rowid()")

    def replace(self, number: int, entry: Entry) -> None:
        """Write over an advice; where its row is gone (somebody deleted the file) it is added."""
        self._database.refresh()
        with self._database.transaction():
            if not self._database.run_many(_REPLACE, [[*_values(entry), number]]):
                self._database.run_many(_INSERT, [_values(entry)])

    def remove(self, number: int) -> None:
        """Forget an advice that came to nothing."""
        self._database.refresh()
        with self._database.transaction():
            self._database.run_many(_REMOVE, [[number]])

    def unfinished(self) -> list[tuple[int, Entry]]:
        """Those that are being tried, or were when their process died; by number, newest first."""
        self._database.refresh()
        rows = self._database.rows(_UNFINISHED, (ENTRIES_MAX,))
        found = []
        for number, *row in rows:
            assert isinstance(number, int)
            found.append((number, msgspec.convert(dict(zip(_FIELDS, row, strict=True)), Entry)))
        return found

    def entries(self, limit: Limit = ENTRIES_MAX) -> list[Entry]:
        """The latest advices, newest first."""
        self._database.refresh()
        rows = self._database.rows(_SELECT, (max(1, min(limit, ENTRIES_MAX)),))
        return [msgspec.convert(dict(zip(_FIELDS, row, strict=True)), Entry) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


def _values(entry: Entry) -> list[Value]:
    return list(structs.astuple(entry))
