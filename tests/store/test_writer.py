"""What the writer promises: taking never waits, nothing is lost silently, a failing disk is survived."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from slipstream.config.settings import Recording
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError
from slipstream.core.meters import Counters
from slipstream.core.ports import RecordSink
from slipstream.store import sqlite
from slipstream.store.records import RecordStore
from slipstream.store.writer import RECENT, RecordWriter
from store.samples import DAY_NS, sample

GUARD_SECONDS = 30.0
FAST = Recording(flush_ms=1)


class Bench:
    """A writer, its counters and its file."""

    def __init__(self, path: Path, settings: Recording) -> None:
        self.path = path
        self.counters = Counters()
        self.writer = RecordWriter(path, settings, self.counters)

    def counted(self, name: str) -> int:
        return self.counters.snapshot()[name]

    def stored(self) -> int:
        store = RecordStore(self.path)
        try:
            return store.count()
        finally:
            store.close()


@contextmanager
def running(path: Path, settings: Recording = FAST) -> Iterator[Bench]:
    bench = Bench(path, settings)
    bench.writer.start()
    try:
        yield bench
    finally:
        bench.writer.close(GUARD_SECONDS)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GUARD_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.002)


def recent_samples(count: int) -> list:
    now = clock.wall_ns()
    return [sample(now + at) for at in range(count)]


def test_what_is_flushed_is_committed(tmp_path: Path) -> None:
    """After `flush` another connection sees every record, and they are counted."""
    with running(tmp_path / "r.db", Recording(flush_ms=60_000)) as bench:
        sink: RecordSink = bench.writer
        records = recent_samples(1_234)
        sink.take(records[0])
        bench.writer.take_many(records[1:])
        assert bench.writer.flush(GUARD_SECONDS)
        assert bench.stored() == 1_234
        assert bench.counted("records_written") == 1_234
        assert bench.writer.waiting == 0
        assert bench.writer.healthy


def test_a_full_batch_does_not_wait_for_its_time(tmp_path: Path) -> None:
    """`batch` records are committed at once, though `flush_ms` is a minute."""
    with running(tmp_path / "r.db", Recording(flush_ms=60_000, batch=10)) as bench:
        bench.writer.take_many(recent_samples(10))
        wait_until(lambda: bench.counted("records_written") == 10)


def test_a_single_record_is_committed_in_time(tmp_path: Path) -> None:
    """Without a flush, after `flush_ms`."""
    with running(tmp_path / "r.db", Recording(flush_ms=1, batch=500)) as bench:
        for count in (1, 2, 3):
            bench.writer.take(recent_samples(1)[0])
            wait_until(lambda count=count: bench.counted("records_written") == count)


class CommitSizes(Counters):
    """Counters that remember how many records each commit had."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def count(self, name: str, by: int = 1) -> None:
        super().count(name, by)
        if name == "records_written":
            self.sizes.append(by)


def test_records_come_together_in_one_commit(tmp_path: Path) -> None:
    """Commits are what a disk is slow at: 500 records in batches of 100 take five."""
    counters = CommitSizes()
    writer = RecordWriter(tmp_path / "r.db", Recording(flush_ms=60_000, batch=100), counters)
    writer.take_many(recent_samples(500))
    writer.start()
    assert writer.flush(GUARD_SECONDS)
    assert writer.close(GUARD_SECONDS)
    assert counters.sizes == [100] * 5


def test_a_record_is_found_before_its_commit(tmp_path: Path) -> None:
    """A page can show a request as soon as it is over; only the newest are kept in memory."""
    with running(tmp_path / "r.db", Recording(flush_ms=60_000, batch=100_000)) as bench:
        records = recent_samples(RECENT + 1)
        bench.writer.take_many(records)
        assert bench.writer.find(records[-1].id) is records[-1]
        assert bench.writer.find(records[1].id) is records[1]
        assert bench.writer.find(records[0].id) is None
        assert bench.writer.find("unknown") is None


def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    """Also what came just before; later ones are dropped and counted, and closing again is harmless."""
    with running(tmp_path / "r.db", Recording(flush_ms=60_000)) as bench:
        bench.writer.take_many(recent_samples(1_000))
        assert bench.writer.close(GUARD_SECONDS)
        assert bench.stored() == 1_000
        bench.writer.take(sample())
        assert bench.counted("records_dropped") == 1
        assert bench.writer.close()
        assert not bench.writer.flush(1.0)
        assert not bench.writer.healthy


def test_a_writer_that_was_never_started_closes(tmp_path: Path) -> None:
    """It has touched no file."""
    bench = Bench(tmp_path / "r.db", FAST)
    assert bench.writer.close()
    assert not list(tmp_path.iterdir())


def test_many_threads_may_take_at_the_same_time(tmp_path: Path) -> None:
    """None is lost, none twice."""
    with running(tmp_path / "r.db") as bench:
        batches = [recent_samples(2_000) for _ in range(4)]
        threads = [threading.Thread(target=bench.writer.take_many, args=(batch,)) for batch in batches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bench.writer.flush(GUARD_SECONDS)
        assert bench.counted("records_written") == bench.stored() == 8_000


def test_taken_is_written_or_dropped_also_while_closing(tmp_path: Path) -> None:
    """The sum holds whenever the writer closes between two takes."""
    for round_ in range(8):
        with running(tmp_path / f"{round_}.db") as bench:
            records = recent_samples(3_000)
            thread = threading.Thread(target=bench.writer.take_many, args=(records,))
            thread.start()
            bench.writer.close(GUARD_SECONDS)
            thread.join()
            assert bench.counted("records_written") + bench.counted("records_dropped") == 3_000
            assert bench.counted("records_written") == bench.stored()


def blocked(path: Path) -> None:
    """Make opening a store at `path` fail, for root too: its folder is a file."""
    path.parent.write_text("in the way")


def test_a_store_that_cannot_be_opened_is_tried_until_it_can(tmp_path: Path) -> None:
    """Serving starts without it; what waits is written once it is there, in order and complete."""
    path = tmp_path / "folder" / "r.db"
    blocked(path)
    with running(path) as bench:
        records = recent_samples(30)
        bench.writer.take_many(records)
        assert not bench.writer.healthy
        assert bench.writer.last_error is not None
        assert bench.writer.last_error.code == sqlite.UNWRITABLE
        assert not bench.writer.flush(0.2)
        assert bench.writer.waiting >= 30
        path.parent.unlink()
        assert bench.writer.flush(GUARD_SECONDS)
        assert bench.writer.healthy
        assert bench.writer.last_error is None
        assert bench.stored() == 30


def test_a_store_that_comes_back_is_healthy_without_a_record(tmp_path: Path) -> None:
    """No traffic is needed to find out."""
    path = tmp_path / "folder" / "r.db"
    blocked(path)
    with running(path) as bench:
        assert not bench.writer.healthy
        path.parent.unlink()
        wait_until(lambda: bench.writer.healthy)


def test_beyond_the_bound_records_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest wait on; one line in the log for the state, not one for each try."""
    path = tmp_path / "folder" / "r.db"
    blocked(path)
    with running(path, Recording(queue=100, batch=10, flush_ms=1)) as bench:
        records = recent_samples(150)
        bench.writer.take_many(records)
        assert 100 <= bench.writer.waiting <= 110
        assert 40 <= bench.counted("records_dropped") <= 50
        assert not bench.writer.flush(1.0)
        wait_until(lambda: not (tmp_path / "folder").is_dir())
        path.parent.unlink()
        wait_until(lambda: bench.writer.waiting == 0)
        written = bench.counted("records_written")
        assert written + bench.counted("records_dropped") == 150
        assert bench.stored() == written
    assert caplog.text.count("records cannot be written") == 1
    assert caplog.text.count("records are written again") == 1


def test_what_cannot_be_written_at_the_end_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing ends within its time, and says what was lost."""
    path = tmp_path / "folder" / "r.db"
    blocked(path)
    with running(path) as bench:
        bench.writer.take_many(recent_samples(7))
        bench.writer.close(0.3)
        assert bench.counted("records_dropped") == 7
        assert "7 records could not be written and are lost" in caplog.text


def test_one_bad_record_takes_no_other_with_it(tmp_path: Path) -> None:
    """It is dropped and counted; the rest of its batch is written, and so is what follows."""
    with running(tmp_path / "r.db", Recording(flush_ms=60_000)) as bench:
        records = recent_samples(20)
        records[7].status = "not a number"  # type: ignore[assignment]
        records[9].model = None  # type: ignore[assignment]
        bench.writer.take_many(records)
        assert bench.writer.flush(GUARD_SECONDS)
        assert (bench.counted("records_written"), bench.counted("records_dropped")) == (18, 2)
        assert bench.writer.healthy
        bench.writer.take_many(recent_samples(5))
        assert bench.writer.flush(GUARD_SECONDS)
        assert bench.stored() == 23


def test_a_full_database_is_survived(tmp_path: Path) -> None:
    """The batch in hand is tried again after the store was opened anew (which lifts the page limit)."""
    with running(tmp_path / "r.db") as bench:
        bench.writer.take(sample(clock.wall_ns()))
        assert bench.writer.flush(GUARD_SECONDS)
        bench.writer._store._database.rows("PRAGMA max_page_count = 1")
        bench.writer.take_many(recent_samples(2_000))
        assert bench.writer.flush(GUARD_SECONDS)
        assert bench.counted("record_batches_failed") >= 1
        assert bench.stored() == 2_001
        assert bench.counted("records_dropped") == 0


def test_a_file_that_is_deleted_is_begun_anew(tmp_path: Path) -> None:
    """Rather than writing on to a file that nobody will ever see."""
    with running(tmp_path / "r.db") as bench:
        bench.writer.take_many(recent_samples(3))
        assert bench.writer.flush(GUARD_SECONDS)
        for file in tmp_path.iterdir():
            file.unlink()
        bench.writer.take_many(recent_samples(4))
        assert bench.writer.flush(GUARD_SECONDS)
        assert bench.stored() == 4


def test_a_newer_file_stops_the_start(tmp_path: Path) -> None:
    """It is the operator's mistake and must be told at once; the thread is not begun."""
    RecordStore(tmp_path / "r.db").close()
    other = apsw.Connection(str(tmp_path / "r.db"))
    other.pragma("user_version", 99)
    other.close()
    bench = Bench(tmp_path / "r.db", FAST)
    with pytest.raises(ConfigurationError, match="schema version 99"):
        bench.writer.start()
    assert bench.writer.close()


def test_old_records_are_deleted_beside_the_writing(tmp_path: Path) -> None:
    """In slices: a batch goes in between."""
    store = RecordStore(tmp_path / "r.db")
    store.insert([sample(clock.wall_ns() - 3 * DAY_NS) for _ in range(5_000)])
    store.close()
    with running(tmp_path / "r.db", Recording(flush_ms=1, keep_days=1.0)) as bench:
        bench.writer.take_many(recent_samples(5))
        assert bench.writer.flush(GUARD_SECONDS)
        wait_until(lambda: bench.stored() == 5)
        assert bench.writer.healthy


def test_the_thread_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    """A program that forgets to close ends all the same."""
    code = (
        "from pathlib import Path; from slipstream.config.settings import Recording;"
        "from slipstream.core.meters import Counters; from slipstream.store.writer import RecordWriter;"
        f"RecordWriter(Path({str(tmp_path / 'r.db')!r}), Recording(), Counters()).start()"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=GUARD_SECONDS, check=False).returncode == 0
