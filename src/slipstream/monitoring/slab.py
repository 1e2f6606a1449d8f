"""A slab: the metrics of one process as numbers in shared memory, laid out for one writer and any reader.

A header, a directory of series (metric and label values -> first cell), then the cells, one double each.
Counters and gauges take one cell, a histogram one for its sum and one for each slot. The writer holds a
lock on the file for as long as it lives, so a slab whose writer died is told from one whose writer is
idle, and the next writer goes on counting where the last one was killed.

On Linux the memory is a sealed memfd behind a link in the slab folder: nobody can shorten it, so no
writer dies of a file that was truncated under it. Elsewhere it is a plain file.
"""

import contextlib
import mmap
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from slipstream.core.errors import StoreFailed
from slipstream.core.histogram import SLOTS
from slipstream.core.metrics import (
    INDEX,
    LABEL_LENGTH_MAX,
    OTHER,
    RECORDED,
    SCHEMA_HASH,
    Metric,
)

if sys.platform != "win32":
    import fcntl

MAGIC = b"SLIPMET1"
HEADER = struct.Struct("<8s16sQII")
"""Magic, schema, epoch (wall clock at the server's start), series at most, cells at most."""
USED = struct.Struct("<II")
"""Series and cells in use; written last, so that a reader never sees half an entry."""
USED_AT = 64
DIRECTORY_AT = 4096
ENTRY = struct.Struct("<HHI")
"""Metric, bytes of the labels, first cell; the labels follow as msgpack."""
ENTRY_BYTES = 256
SERIES_MAX = 1024
CELLS_MAX = 256 * 1024
CELLS_AT = DIRECTORY_AT + SERIES_MAX * ENTRY_BYTES
SLAB_BYTES = CELLS_AT + CELLS_MAX * 8
NOT_SET = float("nan")
"""A gauge that nobody sets."""

_SPILL = CELLS_MAX - 1 - SLOTS
"""Cells that no reader looks at, for what finds no room at all; its refusal is counted."""
_LABELS_BYTES_MAX = ENTRY_BYTES - ENTRY.size
_REFUSED = INDEX["label_sets_refused"]


def cells_of(metric: Metric) -> int:
    """How many cells a series takes."""
    return 1 + SLOTS if metric.kind == "histogram" else 1


class Slab:
    """The writer's side. For one thread; what it writes is seen by readers at once.

    Attributes:
        cells: the numbers; `cells[at] += 1` is a whole update.
        file: its descriptor, -1 where it is private memory.
    """

    def __init__(self, memory: mmap.mmap, file: int = -1) -> None:
        self.file = file
        self._memory = memory
        self._view = memoryview(memory)
        self.cells = self._view[CELLS_AT:SLAB_BYTES].cast("d")
        self._places: dict[tuple[int, tuple[str, ...]], int] = {}
        self._series_of = [0] * len(RECORDED)
        self._series: int
        self._used: int
        self._series, self._used = USED.unpack_from(memory, USED_AT)
        for number, values, at in entries(
            memory[: DIRECTORY_AT + self._series * ENTRY_BYTES], 0, self._series
        ):
            self._places[number, values] = at
            self._series_of[number] += 1
            if RECORDED[number].kind == "gauge":
                self.cells[at] = NOT_SET  # of a writer that is gone
        self._refused_at = self.place(RECORDED[_REFUSED].name)

    def place(self, name: str, *values: str) -> int:
        """The first cell of a series, given the values of the metric's labels in their order.

        A new series beyond what its metric or the slab may have goes to the one of `__other__`.
        """
        number = INDEX[name]
        key = number, values
        at = self._places.get(key)
        if at is not None:
            return at
        metric = RECORDED[number]
        assert len(values) == len(metric.labels), f"{name} has the labels {metric.labels}"
        cut = tuple(_cut(value) for value in values)
        at = self._places.get((number, cut))
        if at is not None:
            return at
        if self._series_of[number] >= metric.series_max - bool(values) or not self._has_room(metric):
            self.cells[self._refused_at] += 1
            return self._other(number, metric)
        return self._add(number, cut, metric)

    def close(self) -> None:
        """Let go of the memory and the lock; gauges are unset first, counters stay."""
        for (number, _), at in self._places.items():
            if RECORDED[number].kind == "gauge":
                self.cells[at] = NOT_SET
        self.cells.release()
        self._view.release()
        self._memory.close()
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def _other(self, number: int, metric: Metric) -> int:
        values = (OTHER,) * len(metric.labels)
        at = self._places.get((number, values))
        if at is None and self._used + cells_of(metric) <= _SPILL and self._series < SERIES_MAX:
            at = self._add(number, values, metric)
        return _SPILL if at is None else at

    def _has_room(self, metric: Metric) -> bool:
        """Room for a series, and for the one of `__other__` after it."""
        return self._used + 2 * cells_of(metric) <= _SPILL and self._series + 1 < SERIES_MAX

    def _add(self, number: int, values: tuple[str, ...], metric: Metric) -> int:
        at = self._used
        labels = msgspec.msgpack.encode(values)
        assert len(labels) <= _LABELS_BYTES_MAX
        start = DIRECTORY_AT + self._series * ENTRY_BYTES
        ENTRY.pack_into(self._memory, start, number, len(labels), at)
        self._memory[start + ENTRY.size : start + ENTRY.size + len(labels)] = labels
        if metric.kind == "gauge":
            self.cells[at] = NOT_SET
        self._series += 1
        self._used += cells_of(metric)
        USED.pack_into(self._memory, USED_AT, self._series, self._used)
        self._places[number, values] = at
        self._series_of[number] += 1
        return at


def slab_folder(control_path: Path) -> Path:
    """Where the slabs of a server lie, from the path of its control socket: whoever finds one finds both."""
    return control_path.with_name(control_path.stem.replace("control-", "metrics-", 1))


def private_slab() -> Slab:
    """A slab in this process's own memory, which nobody else reads."""
    memory = mmap.mmap(-1, SLAB_BYTES)
    memory[: HEADER.size] = _header(0)
    return Slab(memory)


def make_slab(path: Path, epoch_ns: int) -> int:
    """Make an empty slab at `path`; its descriptor, which must stay open for as long as it is to be found.

    Raises `StoreFailed` where there is no room for it.
    """
    try:
        if sys.platform == "linux":
            file = os.memfd_create("slipstream-metrics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _failed(path, error) from error
    try:
        os.ftruncate(file, SLAB_BYTES)
        os.pwrite(file, _header(epoch_ns), 0)
        if sys.platform == "linux":
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            link_slab(path, file)
        else:
            os.posix_fallocate(file, 0, SLAB_BYTES)  # a hole that finds no room would kill its writer
    except OSError as error:
        os.close(file)
        raise _failed(path, error) from error
    return file


def link_slab(path: Path, file: int) -> None:
    """Let `path` lead to a slab of this process; one that was deleted is put back."""
    if sys.platform == "linux" and not path.is_symlink():
        path.symlink_to(f"/proc/{os.getpid()}/fd/{file}")


def claim(path: Path) -> Slab:
    """Become the writer of the slab at `path`. Raises `StoreFailed` where it has one, or is none of ours."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_ours(os.pread(file, HEADER.size, 0)) or os.fstat(file).st_size < SLAB_BYTES:
            raise StoreFailed(f"{path} is no slab of this version.", code="slab_foreign")
        return Slab(mmap.mmap(file, SLAB_BYTES), file)
    except (OSError, ValueError) as error:
        os.close(file)
        raise _failed(path, error) from error
    except StoreFailed:
        os.close(file)
        raise


def claim_guest(folder: Path) -> Slab | None:
    """The first free slab for a process that is no worker; None where all are taken."""
    for path in sorted(folder.glob("guest-*")):
        with contextlib.suppress(StoreFailed):
            return claim(path)
    return None


def is_ours(header: bytes) -> bool:
    """Whether a slab begins like one that we can read."""
    if len(header) < HEADER.size:
        return False
    magic, schema, _, series_max, cells_max = HEADER.unpack_from(header)
    return (magic, schema, series_max, cells_max) == (MAGIC, SCHEMA_HASH, SERIES_MAX, CELLS_MAX)


def entries(directory: bytes, start: int, end: int) -> Iterator[tuple[int, tuple[str, ...], int]]:
    """Metric number, label values and first cell of the series from `start` to `end`.

    Raises `StoreFailed` for what no writer can have written.
    """
    for position in range(start, end):
        at = DIRECTORY_AT + position * ENTRY_BYTES
        try:
            number, length, cell = ENTRY.unpack_from(directory, at)
            labels = directory[at + ENTRY.size : at + ENTRY.size + length]
            values = msgspec.msgpack.decode(labels, type=tuple[str, ...])
            metric = RECORDED[number]
        except (struct.error, msgspec.MsgspecError, UnicodeDecodeError, IndexError) as error:
            raise StoreFailed("A slab's directory is damaged.", code="slab_damaged") from error
        if cell + cells_of(metric) > CELLS_MAX or len(values) != len(metric.labels):
            raise StoreFailed("A slab's directory is damaged.", code="slab_damaged")
        yield number, values, cell


def _header(epoch_ns: int) -> bytes:
    return HEADER.pack(MAGIC, SCHEMA_HASH, epoch_ns, SERIES_MAX, CELLS_MAX)


def _cut(value: str) -> str:
    """A label value within its bound, in bytes, and Unicode."""
    if len(value) <= LABEL_LENGTH_MAX and value.isascii():
        return value
    return value.encode("utf-8", "replace")[:LABEL_LENGTH_MAX].decode("utf-8", "ignore")


def _failed(path: Path, error: Exception) -> StoreFailed:
    return StoreFailed(f"The slab {path} cannot be used: {error}.", code="slab_unusable")
