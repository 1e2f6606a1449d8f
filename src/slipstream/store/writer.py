"""The single writer of the record file: a thread that takes closed records and commits them in batches.

Nothing that calls `take` ever waits for the disk, and a disk that fails is survived: the batch in hand
is tried again while new records queue up to a bound, beyond which they are dropped and counted.
"""

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from slipstream.config.settings import Recording
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, SlipstreamError, StoreFailed
from slipstream.core.meters import Counters
from slipstream.core.record import Record
from slipstream.store.records import RecordStore
from slipstream.store.rows import Row, from_row, id_of
from slipstream.store.values import DAMAGED, ROW_REFUSED

RECENT = 1024
"""How many of the newest records `find` knows before they are committed."""

_NEVER = 2**63
_PRUNE_SECONDS = 60.0
_PRUNED_AT_ONCE = 2_000
_BREATH_SECONDS = 0.000_1
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 2.0
_log = logging.getLogger(__name__)


class RecordWriter:
    """Where closed records go (a `core.ports.RecordSink`).

    `start` opens the file and begins the thread; `close` commits what is left. The thread does not keep
    the process alive. `take` and `take_many` may be called from any thread and cost about a microsecond.

    Counts `records_written`, `records_dropped` and `record_batches_failed`.
    """

    def __init__(self, store_path: Path, settings: Recording, counters: Counters) -> None:
        self._path = store_path
        self._settings = settings
        self._most_waiting = settings.queue
        self._counters = counters
        self._queue: deque[Record | Row | threading.Event] = deque()  # an event is the mark of a `flush`
        self._batch: list[Record | Row] = []
        self._mark: threading.Event | None = None  # to be set once the batch in hand is committed
        self._store: RecordStore | None = None
        self._recent: list[Record | Row | None] = [None] * RECENT
        self._arrivals = itertools.count()
        self._awaited = _NEVER  # the length of the queue at which the thread wants to be woken
        self._wake = threading.Event()
        self._drop_lock = threading.Lock()
        self._hurried = False
        self._closing = False
        self._ended = False
        self._give_up_at_ns = _NEVER
        self._prune_at_ns = 0
        self._last_error: SlipstreamError | None = None
        self._thread = threading.Thread(target=self._run, name="slipstream-records", daemon=True)

    @property
    def healthy(self) -> bool:
        """Whether the thread runs and its last use of the store succeeded."""
        return self._last_error is None and self._thread.is_alive()

    @property
    def last_error(self) -> SlipstreamError | None:
        """Why the store cannot be written now; None while it can."""
        return self._last_error

    @property
    def waiting(self) -> int:
        """Records that are taken and not yet committed."""
        return len(self._queue) + len(self._batch)

    def start(self) -> None:
        """Open the store and begin to write.

        A store that fails is tried again by the thread. Raises `ConfigurationError` for a file that
        must not be written: of a newer Slipstream, or not ours.
        """
        try:
            self._store = RecordStore(self._path)
        except StoreFailed as error:
            self._failed(error)
        self._thread.start()

    def take(self, record: Record | Row) -> None:
        """Keep a closed record, or its row; dropped and counted if the queue is full or the writer closed."""
        queue = self._queue
        if len(queue) >= self._most_waiting or self._closing:
            self._drop(1)
            return
        # Appending and assigning are atomic, so no lock is taken that the thread might be holding.
        self._recent[next(self._arrivals) % RECENT] = record
        queue.append(record)
        if len(queue) >= self._awaited:
            self._wake.set()
        if self._ended:  # the thread ended between the question and the appending
            self._drop_queue()

    def take_many(self, records: Iterable[Record | Row]) -> None:
        """Keep several, as `take` does."""
        for record in records:
            self.take(record)

    def find(self, record_id: str) -> Record | None:
        """One of the newest records, committed or not. None does not mean that the store has none."""
        for each in self._recent:
            if each is not None and id_of(each) == record_id:
                return each if isinstance(each, Record) else from_row(each)
        return None

    def flush(self, timeout: float) -> bool:
        """Wait until all that was taken before is committed; False if that took over `timeout` seconds."""
        if self._closing or len(self._queue) >= self._most_waiting:
            return False
        mark = threading.Event()
        self._queue.append(mark)
        self._hurried = True
        self._wake.set()
        return mark.wait(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Commit what is left and end the thread; closing twice is harmless.

        What cannot be committed within `timeout` seconds is dropped and counted. False if there was such.
        """
        if not self._thread.is_alive():
            return not self.waiting
        self._give_up_at_ns = clock.monotonic_ns() + int(timeout * 1e9)
        self._closing = True
        self._wake.set()
        self._thread.join(timeout + 1.0)
        if self._thread.is_alive():
            _log.error("the record writer did not end: %d records are left", self.waiting)
            return False
        return not self.waiting

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._is_over():
            try:
                self._work()
                pause = _FIRST_PAUSE_SECONDS
            except SlipstreamError as error:
                self._failed(error)
                self._rest(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        self._end()

    def _work(self) -> None:
        """One round: have a store, have a batch, commit it, prune when it is time."""
        store = self._opened()
        if not self._batch:
            self._recovered()
        self._gather()
        if self._batch:
            self._commit(store)
            self._recovered()
        if self._mark is not None:
            self._mark.set()
            self._mark = None
        if clock.monotonic_ns() >= self._prune_at_ns and not self._closing:
            self._prune(store)

    def _opened(self) -> RecordStore:
        if self._last_error is not None and self._store is not None:
            store, self._store = self._store, None
            try:
                if self._last_error.code == DAMAGED:
                    store.set_aside()
                else:
                    store.reopen()
            except StoreFailed:
                store.close()
                raise
            self._store = store
        elif self._store is None:
            self._store = RecordStore(self._path)
        return self._store

    def _gather(self) -> None:
        """Fill the batch: wait for a first record, then for more until `flush_ms` are over.

        Ends at a mark of `flush`, which is then the batch's.
        """
        if self._mark is not None:
            return
        queue, batch, most = self._queue, self._batch, self._settings.batch
        if not batch and not queue:
            self._await(1, self._seconds_to_prune())
        if queue and len(batch) + len(queue) < most:
            self._await(most - len(batch), self._settings.flush_ms / 1000)
        while queue and len(batch) < most:
            item = queue.popleft()
            if isinstance(item, threading.Event):
                self._mark = item
                self._hurried = False
                return
            batch.append(item)

    def _commit(self, store: RecordStore) -> None:
        try:
            store.insert(self._batch, breathe=self._breathe)
            self._counters.count("records_written", len(self._batch))
            self._batch.clear()
        except StoreFailed as error:
            if error.code != ROW_REFUSED:
                raise
            self._commit_singly(store)

    def _commit_singly(self, store: RecordStore) -> None:
        """One record of the batch cannot be stored: it must not take the others with it, nor stop us."""
        while self._batch:
            try:
                store.insert(self._batch[:1])
                self._counters.count("records_written")
            except StoreFailed as error:
                if error.code != ROW_REFUSED:
                    raise
                _log.error("record %r cannot be stored: %s", id_of(self._batch[0]), error)
                self._drop(1)
            del self._batch[0]

    def _prune(self, store: RecordStore) -> None:
        now_ns = clock.monotonic_ns()
        self._prune_at_ns = now_ns + int(_PRUNE_SECONDS * 1e9)  # a prune that fails is not tried at once
        keep = self._settings
        deleted = store.prune(keep.keep_days, keep.keep_bytes, clock.wall_ns(), most=_PRUNED_AT_ONCE)
        if deleted < _PRUNED_AT_ONCE:
            store.optimize()
        else:  # the next batch first, then the rest
            self._prune_at_ns = now_ns

    def _seconds_to_prune(self) -> float:
        return max(0.0, (self._prune_at_ns - clock.monotonic_ns()) / 1e9)

    def _await(self, length: int, seconds: float) -> None:
        """Sleep until the queue is as long as `length`, someone flushes or closes, or time is up."""
        self._wake.clear()
        self._awaited = length
        if len(self._queue) < length and not (
            self._hurried or self._closing
        ):  # looked at after telling: none slips through
            self._wake.wait(seconds)
        self._awaited = _NEVER

    def _breathe(self) -> None:
        """Let others have the core: where there is one only, a batch at one go holds up a request by 3 ms."""
        if not self._closing:
            time.sleep(_BREATH_SECONDS)

    def _rest(self, seconds: float) -> None:
        """Sleep before trying again, shorter where the writer is to close."""
        self._wake.clear()
        if self._closing:
            seconds = min(seconds, _FIRST_PAUSE_SECONDS)
        self._wake.wait(seconds)

    def _failed(self, error: SlipstreamError) -> None:
        if self._last_error is None:  # one line for each change of state, not for each try
            level = logging.ERROR if isinstance(error, ConfigurationError) else logging.WARNING
            _log.log(level, "records cannot be written, they wait in memory: %s", error)
        self._last_error = error
        self._counters.count("record_batches_failed", 1 if self._batch else 0)

    def _recovered(self) -> None:
        if self._last_error is not None:
            _log.warning("records are written again; %d are waiting", self.waiting)
            self._last_error = None

    def _drop(self, count: int) -> None:
        with self._drop_lock:
            self._counters.count("records_dropped", count)

    def _is_over(self) -> bool:
        if not self._closing:
            return False
        return not self.waiting or clock.monotonic_ns() >= self._give_up_at_ns

    def _end(self) -> None:
        self._ended = True
        lost = len(self._batch)
        self._drop(lost)
        self._batch.clear()
        lost += self._drop_queue()
        if lost:
            _log.error("%d records could not be written and are lost: %s", lost, self._last_error)
        if self._store is not None:
            try:
                self._store.close()
            except StoreFailed as error:
                _log.warning("the record store did not close well: %s", error)

    def _drop_queue(self) -> int:
        """Empty the queue of a writer that has ended; how many records that dropped."""
        lost = 0
        with contextlib.suppress(IndexError):
            while True:
                lost += not isinstance(self._queue.popleft(), threading.Event)
        self._drop(lost)
        return lost
