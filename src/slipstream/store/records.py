"""The requests that were recorded: one row each, found again by id, by filter and newest first.

It knows what a record's columns are and how old rows make room; it does not know when (see `writer`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from slipstream.core.record import Outcome, Record
from slipstream.store import migrations
from slipstream.store.rows import COLUMNS, Row, from_row, to_row
from slipstream.store.sqlite import Database, Manner
from slipstream.store.values import Value

SCHEMA = migrations.load("records", application_id=0x536C5271)  # "SlRq"
PAGE_MAX = 1_000
"""Most records that one call of `recent` returns."""

_INTEGER_MAX = 2**63 - 1
_INSERTED_AT_ONCE = 16
_DELETED_AT_ONCE = 500
_FREED_AT_ONCE = 256
_FREE_PAGES_KEPT = 256
_NS_PER_DAY = 86_400 * 1_000_000_000

_LIST = ", ".join(COLUMNS)
_INSERT = (
    "INSERT INTO requests (" + _LIST + ") VALUES (" + ", ".join("?" * len(COLUMNS)) + ") "  # noqa: S608
    "ON CONFLICT (id) DO NOTHING"
)
_SELECT = "SELECT " + _LIST + " FROM requests"  # noqa: S608 - the names of our own fields


class RecordFilter(Struct, frozen=True, kw_only=True):
    """Which records to list; what is None does not matter. All conditions must hold."""

    model: str | None = None
    outcome: Outcome | None = None
    route: str | None = None
    key_id: str | None = None
    upstream: str | None = None
    min_duration_ns: int | None = None
    since_wall_ns: int | None = None
    until_wall_ns: int | None = None
    """Not in it."""


_CONDITIONS = {
    "model": "model = ?",
    "outcome": "outcome = ?",
    "route": "route = ?",
    "key_id": "key_id = ?",
    "upstream": "upstream = ?",
    "min_duration_ns": "duration_ns >= ?",
    "since_wall_ns": "arrived_wall_ns >= ?",
    "until_wall_ns": "arrived_wall_ns < ?",
}
_OLDER = "(arrived_wall_ns, number) < (SELECT arrived_wall_ns, number FROM requests WHERE id = ?)"

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]


class RecordStore:
    """The record file. Safe to use from several threads and beside other processes.

    Opening it creates it, upgrades an older one and sets a damaged one aside (`quarantined`).
    A file that is replaced or deleted while open is noticed at the next call, which goes to the new one.
    Every method raises `StoreFailed`; opening also `ConfigurationError`, for a newer or a foreign file.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA, Manner(synchronous="NORMAL", when_damaged="set aside"))

    @property
    def quarantined(self) -> tuple[Path, ...]:
        """Damaged files that this store has set aside since it was opened."""
        return self._database.quarantined

    def insert(self, batch: Sequence[Record | Row], *, breathe: Callable[[], None] | None = None) -> int:
        """Commit all of `batch` or nothing; how many of them were new.

        A record whose id is known already is left as it is, so that a batch may be sent twice.
        `breathe` is called after every few of them.
        """
        self._database.refresh()
        inserted = 0
        with self._database.transaction():
            for start in range(0, len(batch), _INSERTED_AT_ONCE):
                some = batch[start : start + _INSERTED_AT_ONCE]
                rows = [to_row(each) if isinstance(each, Record) else each for each in some]
                inserted += self._database.run_many(_INSERT, rows)
                if breathe is not None:
                    breathe()
        return inserted

    def get(self, record_id: str) -> Record | None:
        """The record of one request."""
        self._database.refresh()
        rows = self._database.rows(_SELECT + " WHERE id = ?", (record_id,))
        return from_row(rows[0]) if rows else None

    def recent(
        self, limit: Limit = 50, *, before: str = "", where: RecordFilter | None = None
    ) -> list[Record]:
        """At most `limit` records that match `where`, newest first.

        `before` is the id of the last record of the page before; once that one has been deleted for its
        age there is nothing older, and the page is empty.
        """
        self._database.refresh()
        sql, bindings = page_query(limit, before, where or RecordFilter())
        return [from_row(row) for row in self._database.rows(sql, bindings)]

    def count(self) -> int:
        """How many records there are."""
        self._database.refresh()
        return self._database.number("SELECT count(*) FROM requests")

    def prune(self, keep_days: float, keep_bytes: int, now_wall_ns: int, *, most: int = _INTEGER_MAX) -> int:
        """Delete records older than `keep_days`, then the oldest while the rest takes more than `keep_bytes`.

        Works in small transactions, so that a writer beside it never waits long, and stops once `most`
        records are gone. Room that is not soon reused goes back to the file system. How many were deleted.
        """
        self._database.refresh()
        oldest_ns = now_wall_ns - int(keep_days * _NS_PER_DAY)
        deleted = 0
        while deleted < most:
            before_ns = _INTEGER_MAX if self._used_bytes() > keep_bytes else oldest_ns
            gone = self._delete_oldest(min(_DELETED_AT_ONCE, most - deleted), before_ns)
            if not gone:
                break
            deleted += gone
        self._give_back()
        return deleted

    def optimize(self) -> None:
        """Let SQLite look at the data again where it has changed much, to choose among the indexes."""
        self._database.rows("PRAGMA optimize = 0x10002")

    def reopen(self) -> None:
        """Close and open again; due after every failed write."""
        self._database.reopen()

    def set_aside(self) -> None:
        """Begin a new file beside one that turned out damaged while in use."""
        self._database.set_aside()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _delete_oldest(self, most: int, before_wall_ns: int) -> int:
        sql = (
            "DELETE FROM requests WHERE number IN (SELECT number FROM requests"
            " WHERE arrived_wall_ns < ? ORDER BY arrived_wall_ns, number LIMIT ?)"
        )
        return self._database.run_many(sql, [(before_wall_ns, most)])

    def _used_bytes(self) -> int:
        pragma = self._database.number
        return (pragma("PRAGMA page_count") - pragma("PRAGMA freelist_count")) * pragma("PRAGMA page_size")

    def _give_back(self) -> None:
        """Shrink the file while more than an eighth of it is free; what stays free is reused."""
        pragma = self._database.number
        keep = max(_FREE_PAGES_KEPT, pragma("PRAGMA page_count") // 8)
        while (free := pragma("PRAGMA freelist_count")) > keep:
            pages = min(_FREED_AT_ONCE, free - keep)
            self._database.rows(f"PRAGMA incremental_vacuum({pages})")


def page_query(limit: int, before: str, where: RecordFilter) -> tuple[str, tuple[Value, ...]]:
    """The statement of one page of `recent` and its bindings. Only fixed text becomes SQL."""
    conditions = []
    bindings: list[Value] = []
    for name, condition in _CONDITIONS.items():
        value = getattr(where, name)
        if value is not None:
            conditions.append(condition)
            bindings.append(value)
    if before:
        conditions.append(_OLDER)
        bindings.append(before)
    clause = " WHERE " + " AND ".join(conditions) if conditions else ""
    bindings.append(max(1, min(limit, PAGE_MAX)))
    return _SELECT + clause + " ORDER BY arrived_wall_ns DESC, number DESC LIMIT ?", tuple(bindings)
