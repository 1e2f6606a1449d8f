"""A program that profiles itself while the system refuses it something: `python refused.py CASE FOLDER`.

It first uses everything once, so that all modules are there, then lets go of what it may (the rights of root,
where it has them), and prints as JSON what came of each attempt: "done", or the kind of error and its hint.
The last line is that of the program's own work, which must have gone on.
"""

import asyncio
import os
import resource
import sys
import tempfile
import threading
from collections.abc import Callable

import msgspec
import psutil

from slipstream.core.errors import SlipstreamError
from slipstream.profiling import ResourceProfiler, cpu_profiler, memory_profiler

NOBODY = 65534
FILES = 40
told: list[tuple[str, str, str]] = []
runner = asyncio.Runner()
"""A loop of its own needs files: this one is there before any is refused."""


def attempt(name: str, call: Callable[[], object]) -> None:
    """What comes of it."""
    try:
        call()
    except SlipstreamError as error:
        told.append((name, type(error).__name__, error.hint))
    except Exception as error:  # noqa: BLE001 (what a user would have to read)
        told.append((name, f"foreign {type(error).__name__}", str(error)))
    else:
        told.append((name, "done", ""))


def attempt_all() -> None:
    """Every way of profiling."""
    attempt("cpu", lambda: cpu_profiler.profile_cpu(0.05))
    attempt("cpu in a loop", lambda: runner.run(cpu_profiler.aprofile_cpu(0.05)))
    attempt("cpu since", lambda: (cpu_profiler.profile_cpu(), cpu_profiler.stop()))
    attempt("size", memory_profiler.profile_memory)
    attempt("memray", lambda: memory_profiler.profile_memory(0.05, by="memray"))
    attempt("memray in a loop", lambda: runner.run(memory_profiler.aprofile_memory(0.05, by="memray")))
    attempt("tracemalloc", lambda: memory_profiler.profile_memory(0.05, by="tracemalloc"))
    attempt("resources", lambda: ResourceProfiler().snapshot())
    attempt("resources in a loop", lambda: runner.run(ResourceProfiler().awatch(0.3)))


def threads_now() -> int:
    """How many there are. Those of the loop's pool stay, and may be more than before: theirs is to be idle."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


def as_nobody() -> None:
    """Without the rights of root, for whom nothing is refused."""
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def proc(folder: str) -> None:
    """The system's files of processes and counters may not be read."""
    psutil.PROCFS_PATH = folder
    as_nobody()


def temporary(folder: str) -> None:
    """Nothing may be written where temporary files go."""
    tempfile.tempdir = folder
    as_nobody()


def threads(folder: str) -> None:
    """No thread and no process more."""
    as_nobody()
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def writing(folder: str) -> None:
    """No file may grow beyond some bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))


def files(folder: str) -> None:
    """No file more may be opened."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    try:
        while True:
            os.dup(0)
    except OSError:
        pass


CASES: dict[str, Callable[[str], None]] = {
    "proc": proc,
    "temporary": temporary,
    "threads": threads,
    "writing": writing,
    "files": files,
}

if __name__ == "__main__":
    attempt_all()
    begun = threads_now()
    told.clear()
    CASES[sys.argv[1]](sys.argv[2])
    attempt_all()
    told.append(("the program", "done" if sum(range(10)) == 45 else "failed", ""))
    told.append(("threads left", str(threads_now() - begun), ""))
    sys.stdout.buffer.write(msgspec.json.encode(told))
