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

from slipstream.core import clock
from slipstream.core.errors import BadRequest, ConfigurationError, MissingExtra, SlipstreamError
from slipstream.profiling.forks import begin_anew
from slipstream.profiling.memory_profile import PARTS, By, Growth, Seen
from slipstream.profiling.threads import require_thread

KINDS: tuple[By, ...] = ("memray", "memray-objects", "tracemalloc")
LINES_MAX = 25
READ_SECONDS = 120.0
_MARKS_PER_PART = 10  # moments that memray takes down: bytes are told apart by the one they came after
_MARK_MS_MIN = 10
_WORK = 1_000
_UNREAD = (
    "A process of its own reads it: there must be room for both on the disk and among the processes. "
    '`by="tracemalloc"` needs neither.'
)
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

    def forsake(self) -> None:
        """This process is a forked child, and the window its parent's: touch nothing of it any more."""
        ...


class _Turn:
    """Whose turn it is: one window at a time in a process. A forked child has its own turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._window: Window | None = None
        begin_anew(self)

    def take(self) -> bool:
        """Whether it was free."""
        return self._lock.acquire(blocking=False)

    def has(self, window: Window) -> None:
        """The window of this turn."""
        self._window = window

    def release(self) -> None:
        self._window = None
        self._lock.release()

    def forked(self) -> None:
        window, self._window = self._window, None
        self._lock = threading.Lock()
        if window is not None:
            window.forsake()


_TURN = _Turn()


def installed() -> bool:
    """Whether memray is there; it is not imported."""
    return importlib.util.find_spec("memray") is not None


def open_window(by: By, seconds: float, *, file_bytes_max: int) -> Window:
    """Begin.

    Raises `BadRequest` for an unknown kind and where a window or another profiler is open in this process,
    `MissingExtra` where memray is not installed or does not run here, `ConfigurationError` where the
    system refuses it a file.
    """
    if by not in KINDS:
        raise BadRequest(f"Allocations are taken by {', '.join(KINDS)}, not {by!r}.", param="by")
    if not _TURN.take():
        raise BadRequest("Allocations are being traced already.", hint="Wait until that profile is done.")
    with contextlib.ExitStack() as undo:
        undo.callback(_TURN.release)
        window: Window = (
            _Tracemalloc()
            if by == "tracemalloc"
            else _begun(seconds, objects=by == "memray-objects", file_bytes_max=file_bytes_max)
        )
        _TURN.has(window)
        undo.pop_all()
    return window


def _begun(seconds: float, *, objects: bool, file_bytes_max: int) -> "_Memray":
    try:
        return _Memray(seconds, objects=objects, file_bytes_max=file_bytes_max)
    except OSError as error:
        raise ConfigurationError(
            f"memray cannot begin: {error}.",
            hint="Let the variable TMPDIR name a folder that this process may write to, or use "
            '`by="tracemalloc"`, which needs no file.',
        ) from None


class _Memray:
    """Takes them down into a file of its own, which another process reads: it would hold ours up."""

    def __init__(self, seconds: float, *, objects: bool, file_bytes_max: int) -> None:
        if sys.getprofile() is not None:
            raise BadRequest(
                "Another profiler is set in this thread, and memray would take its place.",
                hint='End it first, or use `by="tracemalloc"`.',
            )
        self._stopping, self._stopped, self._is_parents = threading.Lock(), False, False
        plain_ns = _work()
        self._folder = tempfile.mkdtemp(prefix="slipstream-memory-")
        with contextlib.ExitStack() as undo:
            self._path = Path(self._folder, "allocations")
            undo.callback(self._remove)
            self._path.touch(0o600)
            self._bytes_max = min(file_bytes_max, shutil.disk_usage(self._folder).free // 2)
            self._tracker = _tracker(self._path, seconds, objects=objects)
            undo.pop_all()
        self.cost = max(1.0, _work() / max(plain_ns, 1))
        self._stopped_ms = 0

    def part_over(self) -> None:
        pass

    def full(self) -> str:
        try:
            size = self._path.stat().st_size
        except OSError as error:
            return f"its file is out of reach: {error.strerror}"
        return f"its file reached {size / 1e6:.0f} MB" if size > self._bytes_max else ""

    def stop(self) -> None:
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
            try:
                gc.collect()
            finally:
                self._stopped_ms = clock.wall_ns() // 1_000_000
                self._tracker.__exit__(None, None, None)
                _TURN.release()

    def read(self) -> Seen:
        return _read(self._path, self._stopped_ms)

    def end(self) -> None:
        try:
            self.stop()
        finally:
            if not self._is_parents:
                self._remove()

    def _remove(self) -> None:
        """By name: to list a folder takes a file, which a process at its limit has not."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            Path(self._folder).rmdir()

    def forsake(self) -> None:
        was_stopped = self._stopped
        self._stopping, self._stopped, self._is_parents = threading.Lock(), True, True
        if not was_stopped:
            _unhook()


def _unhook() -> None:
    """In a forked child: memray tracks no child, but leaves its hooks there, and so could not begin again.

    Ending the parent's tracker in the child instead would write into the parent's file (memray 1.20).
    """
    for name in ("_name", "_ident"):
        if name in vars(threading.Thread):
            delattr(threading.Thread, name)
    threading.setprofile(None)
    if sys.getprofile() is None:  # a hook in C does not show
        sys.setprofile(None)


def _tracker(path: Path, seconds: float, *, objects: bool) -> AbstractContextManager[object]:
    """A tracker that has begun."""
    try:
        import memray
    except ImportError:  # not there, or its native part does not fit this system
        raise MissingExtra("memray", "profiling") from None
    marks = PARTS * _MARKS_PER_PART
    require_thread()  # memray starts one, and says nothing of use where there is none
    try:
        tracker: AbstractContextManager[object] = memray.Tracker(
            # Not by mmap: a write beyond a full disk would end this process.
            destination=memray.FileDestination(path, overwrite=True, compress_on_exit=False, buffered=True),
            trace_python_allocators=objects,
            memory_interval_ms=max(_MARK_MS_MIN, int(seconds * 1000 / marks)),
        )
        tracker.__enter__()
    except (RuntimeError, AssertionError) as error:  # its hooks are there already
        raise BadRequest(
            f"memray cannot begin: {str(error) or 'it is at work already'}.",
            hint="Somebody else traces allocations in this process, such as `memray run`.",
        ) from None
    return tracker


def _read(path: Path, stopped_ms: int) -> Seen:
    """Let a process of its own read the file: reading holds the interpreter's lock for seconds."""
    asked = (str(path), str(LINES_MAX), str(stopped_ms))
    command = [sys.executable, "-P", "-m", "slipstream.profiling.memray_file", *asked]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    try:
        done = subprocess.run(  # noqa: S603 (our own module)
            command, capture_output=True, check=True, env=environ, timeout=READ_SECONDS
        )
        return msgspec.json.decode(done.stdout, type=Seen)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise SlipstreamError(f"memray's file could not be read: {last}.", hint=_UNREAD) from None
    except (OSError, subprocess.TimeoutExpired, msgspec.MsgspecError) as error:
        raise SlipstreamError(f"memray's file could not be read: {error}.", hint=_UNREAD) from None


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
                _TURN.release()

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

    def forsake(self) -> None:
        self._stopping, self._stopped = threading.Lock(), True
        if not self._was_tracing:
            tracemalloc.stop()


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
