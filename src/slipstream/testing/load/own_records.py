"""What this Slipstream has recorded, as a trace that can be played: arrivals and lengths, no text."""

from pathlib import Path

import msgspec

from slipstream.config import paths
from slipstream.config.settings import Settings
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError
from slipstream.core.record import Record
from slipstream.store.records import PAGE_MAX, RecordFilter, RecordStore

ROWS_MAX = 200_000
"""Newest records that are taken."""


def write_trace(settings: Settings, path: Path, *, seconds: float) -> int:
    """Write the records of the last `seconds` that know their prompt's length; how many there were.

    Raises `ConfigurationError` where there are none.
    """
    if not paths.records_path(settings).is_file():
        raise _none(seconds)
    store = RecordStore(paths.records_path(settings))
    try:
        rows = _rows(store, clock.wall_ns() - round(seconds * 1e9))
    finally:
        store.close()
    if not rows:
        raise _none(seconds)
    path.write_bytes(b"".join(msgspec.json.encode(_line(each)) + b"\n" for each in reversed(rows)))
    return len(rows)


def _rows(store: RecordStore, since_wall_ns: int) -> list[Record]:
    """Newest first."""
    where = RecordFilter(since_wall_ns=since_wall_ns)
    rows: list[Record] = []
    before = ""
    while len(rows) < ROWS_MAX:
        page = store.recent(PAGE_MAX, before=before, where=where)
        rows += [each for each in page if each.prompt_tokens is not None and each.output_tokens is not None]
        if len(page) < PAGE_MAX:
            break
        before = page[-1].id
    return rows[:ROWS_MAX]


def _line(record: Record) -> dict[str, object]:
    return {
        "arrived_wall_ns": record.arrived_wall_ns,
        "prompt_tokens": record.prompt_tokens,
        "output_tokens": record.output_tokens,
    }


def _none(seconds: float) -> ConfigurationError:
    return ConfigurationError(
        f"No requests were recorded in the last {seconds:g} s.",
        hint="Ask further back with --last, or name a trace file.",
    )
