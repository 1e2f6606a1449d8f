"""The supervisor's side of the records: what workers send goes to the one writer, what pages ask is read.

It does not know when records are committed or deleted; that is the store's.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from slipstream.config.settings import Recording
from slipstream.core.errors import StoreFailed
from slipstream.core.meters import Counters
from slipstream.core.record import Record
from slipstream.core.use import UseRow, queue_row
from slipstream.store.records import RecordFilter, RecordStore
from slipstream.store.rows import Row, from_row
from slipstream.store.writer import RecordWriter

_log = logging.getLogger(__name__)


class Recorder:
    """Takes the records of all workers and finds them again.

    Where recording is switched off nothing is opened, and nothing is found.
    """

    def __init__(self, path: Path, settings: Recording, counters: Counters) -> None:
        self._path = path
        self._settings = settings
        self._counters = counters
        self._writer = RecordWriter(path, settings, counters) if settings.enabled else None
        self._reader: RecordStore | None = None
        self._reader_lock = threading.Lock()
        self._listeners: list[Callable[[Record], None]] = []

    def each_record(self, listener: Callable[[Record], None]) -> None:
        """Call `listener` with every record that comes. It must be quick and raise nothing."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Open the file and begin to write. Raises `ConfigurationError` for a file that is not ours."""
        if self._writer is not None:
            self._writer.start()

    def take(self, rows: Sequence[Row]) -> None:
        """Keep what a worker sent; what finds no room is dropped and counted."""
        if self._writer is None:
            return
        self._writer.take_many(rows)
        for listener in self._listeners:
            for row in rows:
                listener(from_row(row))

    async def find(self, record_id: str) -> Record | None:
        """One record, committed or not. Raises `StoreFailed`."""
        if self._writer is None:
            return None
        waiting = self._writer.find(record_id)
        return waiting or await asyncio.to_thread(self._get, record_id)

    async def recent(self, limit: int) -> Sequence[Record]:
        """The latest committed records, newest first. Raises `StoreFailed`."""
        return await asyncio.to_thread(self._recent, limit) if self._writer is not None else ()

    async def page(self, limit: int, before: str, where: RecordFilter) -> Sequence[Record]:
        """Committed records that match, newest first, older than the one `before`. Raises `StoreFailed`."""
        if self._writer is None:
            return ()
        return await asyncio.to_thread(lambda: self._opened().recent(limit, before=before, where=where))

    @property
    def enabled(self) -> bool:
        """Whether requests are recorded."""
        return self._writer is not None

    def use(self) -> UseRow:
        """How full the writer's queue is."""
        waiting = self._writer.waiting if self._writer is not None else 0
        dropped = self._counters.snapshot()["records_dropped"]
        return queue_row("record writer", waiting, self._settings.queue, "records", errors=dropped)

    def health(self) -> dict[str, object]:
        """How the store does, as JSON-ready values."""
        writer = self._writer
        if writer is None:
            return {"enabled": False}
        detail = str(writer.last_error) if writer.last_error is not None else ""
        return {"enabled": True, "healthy": writer.healthy, "detail": detail, "waiting": writer.waiting}

    async def aclose(self, seconds: float) -> None:
        """Commit what is left, for at most `seconds`; what is left then is dropped and counted."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close, seconds)
        if self._reader is not None:
            try:
                await asyncio.to_thread(self._reader.close)
            except StoreFailed as error:
                _log.warning("the record store did not close well: %s", error)

    def _get(self, record_id: str) -> Record | None:
        return self._opened().get(record_id)

    def _recent(self, limit: int) -> list[Record]:
        return self._opened().recent(limit)

    def _opened(self) -> RecordStore:
        with self._reader_lock:
            if self._reader is None:
                self._reader = RecordStore(self._path)
            return self._reader
