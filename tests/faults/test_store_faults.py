"""The record store under faults: kill -9, other processes, full and read-only disks, and damaged files."""

import contextlib
import json
import random
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from slipstream.config.settings import Recording
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, StoreFailed
from slipstream.core.meters import Counters
from slipstream.core.record import Record
from slipstream.store.records import RecordFilter, RecordStore
from slipstream.store.writer import RecordWriter
from store.samples import sample

GUARD_SECONDS = 60.0
CHILD = Path(__file__).with_name("store_writes.py")


def child(*arguments: str, wrapped: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*wrapped, sys.executable, str(CHILD), *arguments], stdout=subprocess.PIPE)


def integrity(path: Path) -> str:
    connection = apsw.Connection(str(path))
    try:
        return connection.pragma("integrity_check")
    finally:
        connection.close()


def kill_while_writing(path: Path, label: str, rng: random.Random) -> int:
    """Kill -9 a writing process at a random moment; the highest number that it had acknowledged."""
    process = child("acknowledge", str(path), label)
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], GUARD_SECONDS)
    assert ready, "the child wrote nothing"
    time.sleep(rng.uniform(0, 0.06))
    process.send_signal(signal.SIGKILL)
    said = process.stdout.read()
    process.stdout.close()
    process.wait(GUARD_SECONDS)
    whole_lines = said[: said.rfind(b"\n") + 1].split()
    return int(whole_lines[-1])


def check_kills(path: Path, kills: int) -> None:
    rng = random.Random(kills)
    acknowledged: dict[str, int] = {}
    for number in range(kills):
        label = f"run{number}"
        acknowledged[label] = kill_while_writing(path, label, rng)
    assert integrity(path) == "ok"
    assert not list(path.parent.glob("*.corrupt-*"))
    connection = apsw.Connection(str(path))
    stored = {identity for (identity,) in connection.execute("SELECT id FROM requests")}
    connection.close()
    for label, highest in acknowledged.items():
        assert all(f"{label}-{number}" in stored for number in range(highest + 1)), label


def test_kill_9_loses_no_acknowledged_record(tmp_path: Path) -> None:
    """Whatever moment it comes at, what `flush` had confirmed is there and the file is whole."""
    check_kills(tmp_path / "r.db", 5)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_kill_9_at_200_moments(tmp_path: Path) -> None:
    """The same, 200 times on one file."""
    check_kills(tmp_path / "r.db", 200)


def test_kill_9_while_the_file_is_made_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    """From the first instruction on: the next start needs no help."""
    rng = random.Random(7)
    for number in range(5):
        path = tmp_path / str(number) / "r.db"
        process = child("acknowledge", str(path), "x")
        assert process.stdout is not None
        deadline = time.monotonic() + GUARD_SECONDS
        while not path.parent.exists():
            assert time.monotonic() < deadline
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        process.wait(GUARD_SECONDS)
        process.stdout.close()
        store = RecordStore(path)
        assert store.quarantined == ()
        store.insert([sample()])
        store.close()
        assert integrity(path) == "ok"


def test_processes_write_and_read_one_file_together(tmp_path: Path) -> None:
    """From its making on: three writers and a reader, every row there, none torn, no error."""
    path = tmp_path / "r.db"
    writers = [child("insert", str(path), label, "60") for label in "abc"]
    store = RecordStore(path)
    while any(process.poll() is None for process in writers):
        found = store.recent(100)
        assert all(len(record.steps) == 8 for record in found)
        store.insert([])
    for process in writers:
        assert process.wait(GUARD_SECONDS) == 0
        assert process.stdout is not None
        process.stdout.close()
    assert store.count() == 3 * 60 * 10
    assert store.quarantined == ()
    store.close()
    assert integrity(path) == "ok"


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    """The writer's thread keeps writing while another process does (the busy timeout at work)."""
    path = tmp_path / "r.db"
    counters = Counters()
    writer = RecordWriter(path, Recording(batch=10, flush_ms=1), counters)
    writer.start()
    other = child("insert", str(path), "other", "100")
    taken = 0
    while other.poll() is None:
        writer.take_many([sample(clock.wall_ns()) for _ in range(10)])
        taken += 10
        assert writer.flush(GUARD_SECONDS)
    assert other.stdout is not None
    other.stdout.close()
    assert other.returncode == 0
    assert writer.close(GUARD_SECONDS)
    store = RecordStore(path)
    assert store.count() == taken + 1_000
    store.close()
    assert counters.snapshot()["records_dropped"] == 0


def survive(folder: Path, fault: str, start: str, *wrapped: str) -> str:
    """Have a child meet a fault and check that its sums are right; the code of the error that it met."""
    process = child("survive", str(folder), fault, start, wrapped=wrapped)
    said, _ = process.communicate(timeout=GUARD_SECONDS)
    assert process.returncode == 0, fault
    told = json.loads(said)
    assert told["integrity"] == "ok"
    assert told["quarantined"] == 0
    assert told["taken"] == told["written"] + told["dropped"]
    assert told["written"] == told["stored"]
    return str(told["code"])


MAY_MOUNT = shutil.which("unshare") and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0
mounting = pytest.mark.skipif(not MAY_MOUNT, reason="needs to be root, to mount")


@mounting
@pytest.mark.parametrize("start", ["before", "after"])
def test_a_full_disk_is_survived(tmp_path: Path, start: str) -> None:
    """Records wait up to the bound, the rest is counted; once there is room it goes on by itself."""
    # Without room for the shared memory beside the log, SQLite cannot say that it is room that lacks.
    assert survive(tmp_path, "full", start, "unshare", "-m") in {"store_full", "store_broken"}


@mounting
def test_a_read_only_disk_is_survived(tmp_path: Path) -> None:
    """The same, on a file system that is read-only at the start."""
    assert survive(tmp_path, "read-only", "after", "unshare", "-m") == "store_unwritable"


@pytest.mark.parametrize("start", ["before", "after"])
def test_input_and_output_errors_are_survived(tmp_path: Path, start: str) -> None:
    """The same, when writing fails (the size limit of a process stands for a failing disk)."""
    assert survive(tmp_path, "input and output errors", start) in {"store_full", "store_broken"}


Damage = Callable[[bytearray, random.Random], None]


def flip_bits(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 5, 100])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def flip_bits_of_the_first_page(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 3])):
        content[rng.randrange(4096)] ^= 1 << rng.randrange(8)


def truncate(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def scribble(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice([16, 4096, 50_000]))
    content[start:end] = rng.randbytes(end - start)


def blank_pages(content: bytearray, rng: random.Random) -> None:
    for _ in range(3):
        start = rng.randrange(len(content) // 4096) * 4096
        content[start : start + 4096] = bytes(4096)


DAMAGES: list[Damage] = [flip_bits, flip_bits_of_the_first_page, truncate, scribble, blank_pages]


def scattered(count: int) -> list[Record]:
    """Records whose ids are in no order, so that writing some touches pages all over the file."""
    now = clock.wall_ns()
    return [sample(now + at, id=secrets.token_hex(16), model=f"m{at % 7}") for at in range(count)]


Healthy = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Healthy:
    """A database that was closed, and one with the log that a killed process leaves behind."""
    path = tmp_path_factory.mktemp("healthy") / "r.db"
    store = RecordStore(path)
    store.insert(scattered(1_500))
    store.prune(1.0, 600_000, clock.wall_ns(), most=500)
    store.close()
    closed = path.read_bytes()
    process = child("acknowledge", str(path), "wal")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait(GUARD_SECONDS)
    process.stdout.close()
    return [(closed, b""), (path.read_bytes(), path.with_name("r.db-wal").read_bytes())]


def check_damaged_start(folder: Path, healthy: Healthy, seed: int) -> bool:
    """Start on a damaged file and write; whether a new file was begun. Only errors of ours may show."""
    rng = random.Random(seed)
    database, log = map(bytearray, healthy[rng.randrange(2)])
    header = database[56:72]
    damage = DAMAGES[seed % len(DAMAGES)]
    damage(log if log and rng.random() < 0.3 else database, rng)
    folder.mkdir()
    path = folder / "r.db"
    path.write_bytes(database)
    if log:
        (folder / "r.db-wal").write_bytes(log)
    counters = Counters()
    writer = RecordWriter(path, Recording(flush_ms=1), counters)
    try:
        writer.start()
    except ConfigurationError:
        # Four bytes each say whose file and of which version it is: then it is left alone, and told.
        assert database[56:72] != header
        return False
    records = scattered(60)
    writer.take_many(records)
    assert writer.flush(GUARD_SECONDS), writer.last_error
    assert writer.close(GUARD_SECONDS)
    assert counters.snapshot()["records_written"] == 60
    store = RecordStore(path)
    anew = bool(list(folder.glob("*.corrupt-*")))
    for ask in (
        lambda: store.get(records[0].id),
        lambda: store.recent(1_000),
        lambda: store.recent(50, before=records[5].id, where=RecordFilter(model="m1")),
        store.count,
    ):
        with contextlib.suppress(StoreFailed):
            ask()
    store.close()
    return anew


def check_damaged_starts(folder: Path, healthy: Healthy, seeds: int) -> None:
    anew = 0
    for seed in range(seeds):
        anew += check_damaged_start(folder / str(seed), healthy, seed)
        shutil.rmtree(folder / str(seed))
    assert 0 < anew < seeds  # some damage shows when writing, some does not


def test_a_damaged_file_never_stops_the_writing(tmp_path: Path, healthy: Healthy) -> None:
    """Flipped bits, lost ends, rubbish, blank pages, in the database and its log: new records are written."""
    check_damaged_starts(tmp_path, healthy, 30)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_file_damaged_in_1000_ways_never_stops_the_writing(tmp_path: Path, healthy: Healthy) -> None:
    """The same with a thousand seeds."""
    check_damaged_starts(tmp_path, healthy, 1_000)


def test_a_file_that_is_damaged_in_use_is_set_aside(tmp_path: Path) -> None:
    """The writer notices at its next commit, begins a new file and writes the batch in hand to it."""
    path = tmp_path / "r.db"
    writer = RecordWriter(path, Recording(flush_ms=1), Counters())
    writer.start()
    assert writer._store is not None
    writer._store._database.rows("PRAGMA cache_size = 10")  # what SQLite holds in memory is not damaged
    writer.take_many(scattered(2_000))
    assert writer.flush(GUARD_SECONDS)
    # By another process: a descriptor of ours, closed, would drop SQLite's locks.
    script = (
        "import os, sys; size = os.path.getsize(sys.argv[1]); f = open(sys.argv[1], 'r+b');"
        "f.seek(4096); f.write(os.urandom(size - 4096)); f.close(); os.truncate(sys.argv[1] + '-wal', 0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    deadline = time.monotonic() + GUARD_SECONDS
    while not list(tmp_path.glob("*.corrupt-*")):
        assert time.monotonic() < deadline
        writer.take_many(scattered(50))
        assert writer.flush(GUARD_SECONDS)
    last = scattered(50)
    writer.take_many(last)
    assert writer.flush(GUARD_SECONDS)
    assert writer.healthy
    store = RecordStore(path)
    assert store.get(last[0].id) == last[0]
    store.close()
    assert writer.close(GUARD_SECONDS)
    assert integrity(path) == "ok"
    assert path.stat().st_mode & 0o777 == 0o600
