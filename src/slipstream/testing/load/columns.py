"""Where a worker writes down its requests: rows in shared memory, which outlive it.

The memory is a sparse file of the largest size that is allowed; only what was written takes room. A row is
filled in twice, when its request is sent and when it ends, so that a worker that dies leaves what it knew.
"""

import contextlib
import mmap
import os
import struct
import tempfile
from array import array

import numpy as np
from numpy.typing import NDArray

from slipstream.core.errors import Unavailable
from slipstream.testing.load.samples import ERRORS, NEVER, Samples

HEADER_BYTES = 4096
ROW = np.dtype(
    [
        ("intended_ns", "<i8"),
        ("sent_ns", "<i8"),
        ("lag_ns", "<i8"),
        ("first_byte_ns", "<i8"),
        ("first_content_ns", "<i8"),
        ("last_content_ns", "<i8"),
        ("done_ns", "<i8"),
        ("gap_starts", "<i8"),
        ("gap_counts", "<i4"),
        ("chunks", "<i4"),
        ("prompt_tokens", "<i4"),
        ("output_tokens", "<i4"),
        ("cached_tokens", "<i4"),
        ("received_bytes", "<i4"),
        ("status", "<i2"),
        ("error", "u1"),
        ("spare", "V5"),
    ]
)
ROW_BYTES = ROW.itemsize
_BEGIN = struct.Struct("<qqq")
_END = struct.Struct("<qqqqqiiiiiihB")
_END_AT = _BEGIN.size
_HEADER = struct.Struct("<8q")
LOST_MAX = 65_536
"""Rows that a worker may begin between two looks at its counts."""
_PIECE = 1024
"""Rows that are prepared at a time."""

GAP_BUCKETS = 1024
GAP_BUCKETS_PER_DOUBLING = 32


class Counts:
    """What the header says: how far a worker is."""

    __slots__ = ("done", "errors", "gaps", "planned", "received_bytes", "rows", "sent_bytes", "waiting")

    def __init__(self, values: tuple[int, ...] = (0,) * 8) -> None:
        self.rows, self.done, self.errors, self.gaps = values[:4]
        self.received_bytes, self.sent_bytes, self.waiting, self.planned = values[4:]

    def values(self) -> tuple[int, ...]:
        """In the order in which they are stored."""
        return (
            self.rows,
            self.done,
            self.errors,
            self.gaps,
            self.received_bytes,
            self.sent_bytes,
            self.waiting,
            self.planned,
        )


def shared_file(size: int) -> int:
    """A sparse file without a name; the descriptor is the caller's to close.

    Raises `Unavailable` where the system does not give one.
    """
    try:
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("slipstream-load")
        else:
            fd, name = tempfile.mkstemp(prefix="slipstream-load-")
            os.unlink(name)  # noqa: PTH108 - the descriptor is what is kept
        os.ftruncate(fd, size)
    except OSError as error:
        raise Unavailable(
            f"No memory for the samples of a load test: {error.strerror}.", hint="Allow fewer requests."
        ) from None
    return fd


def rows_size(rows_max: int) -> int:
    """Bytes of a file for so many rows."""
    return HEADER_BYTES + (rows_max + _PIECE) * ROW_BYTES


def gaps_size(gaps_max: int) -> int:
    """Bytes of a file for so many gaps."""
    return max(4096, gaps_max * 4)


class Recorder:
    """The writing side.

    Args:
        rows_fd: file for the rows.
        gaps_fd: file for the gaps between chunks.
        rows_max: most rows.
        gaps_max: most gaps that are kept exactly.
    """

    def __init__(self, rows_fd: int, gaps_fd: int, *, rows_max: int, gaps_max: int) -> None:
        self._rows = mmap.mmap(rows_fd, rows_size(rows_max))
        self._gaps = mmap.mmap(gaps_fd, gaps_size(gaps_max))
        self._gaps_max = gaps_max
        self.rows_max = rows_max
        self.counts = Counts()
        self.gaps_beyond = 0
        self.gap_histogram: list[int] = []
        blank = np.zeros(_PIECE, ROW)
        for name in ("sent_ns", "first_byte_ns", "first_content_ns", "last_content_ns", "done_ns"):
            blank[name] = NEVER
        for name in ("prompt_tokens", "output_tokens", "cached_tokens"):
            blank[name] = NEVER
        blank["error"] = ERRORS.index("cancelled")
        self._blank = blank.tobytes()
        self._prepared = 0

    def begin(self, intended_ns: int, sent_ns: int, lag_ns: int) -> int:
        """A new row; `sent_ns` -1 = it waits for a user still. The caller minds `rows_max`."""
        row = self.counts.rows
        if row == self._prepared:
            start = HEADER_BYTES + row * ROW_BYTES
            self._rows[start : start + len(self._blank)] = self._blank
            self._prepared += _PIECE
        _BEGIN.pack_into(self._rows, HEADER_BYTES + row * ROW_BYTES, intended_ns, sent_ns, lag_ns)
        self.counts.rows = row + 1
        return row

    def finish(
        self,
        row: int,
        times: tuple[int, int, int, int],
        gaps: list[int],
        numbers: tuple[int, int, int, int, int],
        verdict: tuple[int, int],
    ) -> None:
        """The end of a row.

        Args:
            row: which.
            times: first byte, first content, last content, done; -1 = never.
            gaps: between content chunks.
            numbers: chunks, prompt, output and cached tokens, received bytes.
            verdict: HTTP status, index of the error.
        """
        start = kept = 0
        if gaps:
            start, kept = self._keep(gaps)
        _END.pack_into(
            self._rows, HEADER_BYTES + row * ROW_BYTES + _END_AT, *times, start, kept, *numbers, *verdict
        )
        counts = self.counts
        counts.done += 1
        counts.received_bytes += numbers[4]
        if verdict[1]:
            counts.errors += 1

    def publish(self) -> None:
        """Let the other side see the counts."""
        _HEADER.pack_into(self._rows, 0, *self.counts.values())

    def close(self) -> None:
        """Publish, and give the memory back."""
        self.publish()
        self._rows.close()
        self._gaps.close()

    def _keep(self, gaps: list[int]) -> tuple[int, int]:
        start = self.counts.gaps
        kept = max(0, min(len(gaps), self._gaps_max - start))
        if kept < len(gaps):
            self._count(gaps[kept:])
            gaps = gaps[:kept]
        top = 2**31 - 1
        try:
            piece = array("i", gaps)
        except OverflowError:
            piece = array("i", [min(each, top) for each in gaps])
        self._gaps[start * 4 : (start + kept) * 4] = piece.tobytes()
        self.counts.gaps = start + kept
        return start, kept

    def _count(self, gaps: list[int]) -> None:
        """Those beyond the cap go into a histogram of logarithmic buckets."""
        if not self.gap_histogram:
            self.gap_histogram = [0] * GAP_BUCKETS
        self.gaps_beyond += len(gaps)
        places = np.log2(np.maximum(np.array(gaps, np.float64), 1)) * GAP_BUCKETS_PER_DOUBLING
        for each in np.minimum(places.astype(np.int64), GAP_BUCKETS - 1).tolist():
            self.gap_histogram[each] += 1


class Reading:
    """The reading side; may look at any time."""

    def __init__(self, rows_fd: int, gaps_fd: int, *, rows_max: int, gaps_max: int) -> None:
        self._map = mmap.mmap(rows_fd, rows_size(rows_max), prot=mmap.PROT_READ)
        self._gaps = mmap.mmap(gaps_fd, gaps_size(gaps_max), prot=mmap.PROT_READ)

    def counts(self) -> Counts:
        """As last published."""
        return Counts(_HEADER.unpack_from(self._map))

    def rows(self, start: int, end: int) -> NDArray[np.void]:
        """Rows `start` to `end`, as they are now."""
        return np.frombuffer(self._map, ROW, end - start, HEADER_BYTES + start * ROW_BYTES)

    def rows_begun(self, published: int) -> int:
        """How many rows there are, of which so many were published before the writer died."""
        most = (len(self._map) - HEADER_BYTES) // ROW_BYTES
        later = self.rows(published, min(most, published + LOST_MAX))
        is_prepared = (later["error"] != 0) | (later["done_ns"] != 0)
        begun = is_prepared & (later["sent_ns"] >= 0)
        return published + (len(begun) if begun.all() else int(np.argmin(begun)))

    def samples(self, rows: int, gaps: int, worker: int, phases: tuple[int, int]) -> Samples:
        """What was measured. The columns look into the shared memory, which lives as long as they do.

        Args:
            rows: how many.
            gaps: how many gaps.
            worker: its number.
            phases: ends of warm-up and ramp, ns since the start.
        """
        table = self.rows(0, rows)
        intended = table["intended_ns"]
        phase = np.where(intended < phases[0], 1, np.where(intended < phases[1], 2, 0)).astype(np.uint8)
        names = [name for name in ROW.names or () if name != "spare"]
        none = np.zeros(0, np.int64)
        return Samples(
            **{name: table[name] for name in names},
            worker=np.full(rows, worker, np.uint16),
            phase=phase,
            gaps_ns=np.frombuffer(self._gaps, np.int32, gaps),
            request_rows=none,
            request_ids=(),
        )

    def close(self) -> None:
        """Give back what no samples look into."""
        for each in (self._map, self._gaps):
            with contextlib.suppress(BufferError):  # samples are left: it goes with them
                each.close()
