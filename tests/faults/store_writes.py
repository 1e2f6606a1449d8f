"""Child processes of `test_store_faults`: they write records and say on standard output what is committed."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from slipstream.config.settings import Recording
from slipstream.core import clock
from slipstream.core.meters import Counters
from slipstream.core.record import Record, Step
from slipstream.store.records import RecordStore
from slipstream.store.writer import RecordWriter

GUARD_SECONDS = 30.0


def records(label: str, first: int, count: int) -> list[Record]:
    now = clock.wall_ns()
    return [
        Record(id=f"{label}-{number}", arrived_wall_ns=now + number, steps=[Step("relay", number, 5)] * 8)
        for number in range(first, first + count)
    ]


def acknowledge_for_ever(path: str, label: str) -> None:
    """Through the writer; a line with the highest number that is committed, after every flush."""
    writer = RecordWriter(Path(path), Recording(batch=50, flush_ms=1), Counters())
    writer.start()
    first = 0
    while True:
        writer.take_many(records(label, first, 20))
        assert writer.flush(GUARD_SECONDS)
        first += 20
        print(first - 1, flush=True)


def insert_batches(path: str, label: str, batches: str) -> None:
    """A second writer, as a program that uses the library would be."""
    store = RecordStore(Path(path))
    for batch in range(int(batches)):
        store.insert(records(label, batch * 10, 10))
    store.close()


def survive(folder: str, fault: str, start: str) -> None:
    """Meet a fault (while writing, or before the start), have it lifted, and be complete again."""
    make, lift = FAULTS[fault]
    path = Path(folder) / "store" / "r.db"
    counters = Counters()
    writer = RecordWriter(path, Recording(queue=300, batch=50, flush_ms=1), counters)
    if start == "after":
        RecordStore(path).close()
        make(folder)
    writer.start()
    taken = 0
    if start == "before":
        writer.take_many(records("before", 0, 100))
        taken += 100
        assert writer.flush(GUARD_SECONDS)
        make(folder)
    deadline = time.monotonic() + GUARD_SECONDS
    while writer.last_error is None or not counters.snapshot()["records_dropped"]:
        assert time.monotonic() < deadline, "the fault did not show"
        writer.take_many(records("during", taken, 50))
        taken += 50
        time.sleep(0.005)
    code = writer.last_error.code
    lift(folder)
    while not writer.healthy or writer.waiting:
        assert time.monotonic() < deadline, f"no recovery: {writer.last_error}"
        time.sleep(0.005)
    writer.take_many(records("after", 0, 50))
    taken += 50
    assert writer.close(GUARD_SECONDS)
    store = RecordStore(path)
    counts = counters.snapshot()
    told = {
        "code": code,
        "quarantined": len(list(path.parent.glob("*.corrupt-*"))),
        "taken": taken,
        "written": counts["records_written"],
        "dropped": counts["records_dropped"],
        "stored": store.count(),
        "integrity": store._database.rows("PRAGMA integrity_check")[0][0],
    }
    store.close()
    print(json.dumps(told))


def mount(folder: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)


def fill(folder: str) -> None:
    with (Path(folder) / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def empty(folder: str) -> None:
    (Path(folder) / "filler").unlink()


def make_read_only(folder: str) -> None:
    """For whoever opens a file from now on."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)


def make_writable(folder: str) -> None:
    subprocess.run(["umount", "-l", folder], check=True)


def forbid_growth(folder: str) -> None:
    """Every write beyond 4 KB of any file fails, as with an I/O error (EFBIG)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


def allow_growth(folder: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


FAULTS = {
    "full": (fill, empty),
    "read-only": (make_read_only, make_writable),
    "input and output errors": (forbid_growth, allow_growth),
}


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    if task == "survive" and arguments[1] == "full":
        mount(arguments[0])
    {"acknowledge": acknowledge_for_ever, "insert": insert_batches, "survive": survive}[task](*arguments)
