"""Windows in which a process's allocations are taken down: by memray or by tracemalloc.

A window is opened, waited for by whoever opened it, stopped, read and ended; one at a time in a process.
Opening and stopping take some milliseconds; every step may be done in any thread.
"""

import contextlib
import gc
import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from slipstream.core.errors import BadRequest, MissingExtra, SlipstreamError
from slipstream.profiling.memory_profile import PARTS, By, Growth, Seen

KINDS: tuple[By, ...] = ("memray", "memray-objects", "tracemalloc")
LINES_MAX = 25
READ_SECONDS = 120.0
_MARKS_PER_PART = 10  # moments that memray takes down: bytes are told apart by the one they came after
_MARK_MS_MIN = 10
_WORK = 1_000
_TRACING = threading.Lock()
_OURS = {tracemalloc.__file__, __file__, str(Path(__file__).with_name("memory.py"))}
Line = tuple[str, int]


class Window(Protocol):
    """Allocations are taken down from its making to its `stop`.

    Attributes:
        cost: how many times slower a piece of work that allocates is in it.
    """

    cost: float

    def part_over(self) -> None:
        """To be called at the end of each quarter but the last."""
        ...

    def full(self) -> str:
        """Why it must end early; empty where it may go on."""
        ...

    def stop(self) -> None:
        """Take down no more, and let others open a window; harmless when it is stopped already."""
        ...

    def read(self) -> Seen:
        """What was seen. Raises `SlipstreamError` where that cannot be told."""
        ...

    def end(self) -> None:
        """Stop, and leave nothing behind; in any case, and after `read`."""
        ...


def installed() -> bool:
    """Whether memray is there; it is not imported."""
    return importlib.util.find_spec("memray") is not None


def open_window(by: By, seconds: float, *, file_bytes_max: int) -> Window:
    """Begin.

    Raises `BadRequest` for an unknown kind and where a window or another profiler is open in this process,
    `MissingExtra` where memray is not installed or does not run here.
    """
    if by not in KINDS:
        raise BadRequest(f"Allocations are taken by {', '.join(KINDS)}, not {by!r}.", param="by")
    if not _TRACING.acquire(blocking=False):
        raise BadRequest("Allocations are being traced already.", hint="Wait until that profile is done.")
    with contextlib.ExitStack() as undo:
        undo.callback(_TRACING.release)
        window: Window = (
            _Tracemalloc()
            if by == "tracemalloc"
            else _Memray(seconds, objects=by == "memray-objects", file_bytes_max=file_bytes_max)
        )
        undo.pop_all()
    return window


class _Memray:
    """Takes them down into a file of its own, which another process reads: it would hold ours up."""

    def __init__(self, seconds: float, *, objects: bool, file_bytes_max: int) -> None:
        if sys.getprofile() is not None:
            raise BadRequest(
                "Another profiler is set in this thread, and memray would take its place.",
                hint='End it first, or use `by="tracemalloc"`.',
            )
        self._stopping, self._stopped = threading.Lock(), False
        plain_ns = _work()
        self._folder = tempfile.mkdtemp(prefix="slipstream-memory-")
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._path = Path(self._folder, "allocations")
            self._path.touch(0o600)
            self._bytes_max = min(file_bytes_max, shutil.disk_usage(self._folder).free // 2)
            self._tracker = _tracker(self._path, seconds, objects=objects)
            undo.pop_all()
        self.cost = max(1.0, _work() / max(plain_ns, 1))

    def part_over(self) -> None:
        pass

    def full(self) -> str:
        size = self._path.stat().st_size
        return f"its file reached {size / 1e6:.0f} MB" if size > self._bytes_max else ""

    def stop(self) -> None:
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
            try:
                gc.collect()
            finally:
                self._tracker.__exit__(None, None, None)
                _TRACING.release()

    def read(self) -> Seen:
        return _read(self._path)

    def end(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def _tracker(path: Path, seconds: float, *, objects: bool) -> AbstractContextManager[object]:
    """A tracker that has begun."""
    try:
        import memray
    except ImportError:  # not there, or its native part does not fit this system
        raise MissingExtra("memray", "profiling") from None
    marks = PARTS * _MARKS_PER_PART
    try:
        tracker: AbstractContextManager[object] = memray.Tracker(
            # Not by mmap: a write beyond a full disk would end this process.
            destination=memray.FileDestination(path, overwrite=True, compress_on_exit=False, buffered=True),
            trace_python_allocators=objects,
            memory_interval_ms=max(_MARK_MS_MIN, int(seconds * 1000 / marks)),
        )
        tracker.__enter__()
    except RuntimeError as error:
        raise BadRequest(
            f"memray cannot begin: {error}.",
            hint="Somebody else traces allocations in this process, such as `memray run`.",
        ) from None
    return tracker


def _read(path: Path) -> Seen:
    """Let a process of its own read the file: reading holds the interpreter's lock for seconds."""
    command = [sys.executable, "-P", "-m", "slipstream.profiling.memray_file", str(path), str(LINES_MAX)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    try:
        done = subprocess.run(  # noqa: S603 (our own module)
            command, capture_output=True, check=True, env=environ, timeout=READ_SECONDS
        )
        return msgspec.json.decode(done.stdout, type=Seen)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise SlipstreamError(f"memray's file could not be read: {last}.") from None
    except (OSError, subprocess.TimeoutExpired, msgspec.MsgspecError) as error:
        raise SlipstreamError(f"memray's file could not be read: {error}.") from None


class _Tracemalloc:
    """Snapshots at the end of each part; where the program traces already, that goes on."""

    def __init__(self) -> None:
        self._stopping, self._stopped = threading.Lock(), False
        self._was_tracing = tracemalloc.is_tracing()
        self.cost = 1.0
        if not self._was_tracing:
            plain_ns = _work()
            tracemalloc.start(1)
            self.cost = max(1.0, _work() / max(plain_ns, 1))
        self._taken = [tracemalloc.take_snapshot()]

    def part_over(self) -> None:
        self._taken.append(tracemalloc.take_snapshot())

    def full(self) -> str:
        return ""

    def stop(self) -> None:
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
            try:
                gc.collect()
                self._taken.append(tracemalloc.take_snapshot())
            finally:
                if not self._was_tracing:
                    tracemalloc.stop()
                _TRACING.release()

    def read(self) -> Seen:
        found = self._taken[-1].compare_to(self._taken[0], "lineno")
        grown = sorted((each for each in found if each.size_diff > 0), key=lambda each: -each.size_diff)
        sizes = [_sizes(taken) for taken in self._taken]
        kept = [
            Growth(*line, each.size_diff, each.count_diff, _parts(sizes, line))
            for each in grown
            for line in [(each.traceback[0].filename, each.traceback[0].lineno)]
            if line[0] not in _OURS
        ]
        return Seen(tuple(kept[:LINES_MAX]))

    def end(self) -> None:
        self.stop()


def _parts(sizes: Sequence[dict[Line, int]], line: Line) -> tuple[int, ...]:
    """What came to a line from each snapshot to the next."""
    return tuple(after.get(line, 0) - before.get(line, 0) for before, after in itertools.pairwise(sizes))


def _sizes(taken: tracemalloc.Snapshot) -> dict[Line, int]:
    """Bytes by line."""
    return {
        (each.traceback[0].filename, each.traceback[0].lineno): each.size
        for each in taken.statistics("lineno")
    }


def _work() -> int:
    """CPU time of a piece of work as programs do it: calls, small objects, a few larger blocks; in ns."""
    began_ns = time.thread_time_ns()
    for _ in range(_WORK):
        _piece(dict)
    return time.thread_time_ns() - began_ns


def _piece(make: Callable[..., object]) -> object:
    return [make(at=at, text=f"{at}") for at in range(10)], bytearray(2_000)
