"""What was measured of each request of a run, in columns. Its only statistics are differences of times."""

from pathlib import Path
from typing import Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipstream.core.errors import ConfigurationError

Longs = NDArray[np.int64]
Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]

NEVER = -1
"""A time that did not come, a count that is not known."""

ERRORS = (
    "",
    "connect_refused",
    "connect_timeout",
    "connect_failed",
    "dns_failed",
    "tls_failed",
    "no_ports",
    "timeout",
    "reset",
    "incomplete",
    "malformed",
    "malformed_stream",
    "too_large",
    "http_3xx",
    "http_401",
    "http_403",
    "http_429",
    "http_4xx",
    "http_5xx",
    "error_event",
    "cancelled",
    "exception",
    "no_files",
)
"""How a request can end; the column `error` is an index into it, 0 = a whole good answer.

`cancelled`: the run ended first (in flight, or still waiting for a free user, which has `sent_ns` -1).
`incomplete`: the connection or the stream ended before the answer did. `exception`: raised by a callable.
"""

PHASES = ("measured", "warmup", "ramp")
"""When a request was due; the column `phase` is an index into it."""

_COLUMNS = {
    "intended_ns": np.int64,
    "sent_ns": np.int64,
    "first_byte_ns": np.int64,
    "first_content_ns": np.int64,
    "last_content_ns": np.int64,
    "done_ns": np.int64,
    "lag_ns": np.int64,
    "chunks": np.int32,
    "prompt_tokens": np.int32,
    "output_tokens": np.int32,
    "cached_tokens": np.int32,
    "received_bytes": np.int32,
    "status": np.int16,
    "error": np.uint8,
    "worker": np.uint16,
    "phase": np.uint8,
    "gap_starts": np.int64,
    "gap_counts": np.int32,
}
"""The columns with one entry a request, and their types."""


class Samples(Struct, frozen=True, eq=False):
    """Columns of equal length, one entry a request, in order of intended time.

    Times are ns since the start of the run, monotonic, -1 = never. Tokens are what the server reported,
    -1 = unknown.
    """

    intended_ns: Longs
    """When it should have been sent; in a closed loop, when its user was ready."""
    sent_ns: Longs
    """When its sending began; a connection that had to be opened first is opened after that."""
    first_byte_ns: Longs
    first_content_ns: Longs
    """First chunk with text of the model in it; of an answer that is not streamed, its end."""
    last_content_ns: Longs
    done_ns: Longs
    """When the answer was whole, or the failure was seen."""
    lag_ns: Longs
    """How much later than intended the client took it up; waiting for a free user is not part of it."""
    chunks: Ints
    """Chunks with content."""
    prompt_tokens: Ints
    output_tokens: Ints
    cached_tokens: Ints
    received_bytes: Ints
    status: NDArray[np.int16]
    """HTTP status, 0 = none."""
    error: NDArray[np.uint8]
    worker: NDArray[np.uint16]
    phase: NDArray[np.uint8]
    gap_starts: Longs
    """Where the request's gaps begin in `gaps_ns`."""
    gap_counts: Ints
    """How many there are; fewer than `chunks - 1` where the cap bit (`Meters.gaps_beyond`)."""
    gaps_ns: Ints
    """Times between content chunks, one answer after the other; chunks read together are 0 apart."""
    request_rows: Longs
    """Rows whose id the server gave and that were drawn for `request_ids`; ascending."""
    request_ids: tuple[str, ...]
    """The ids of those rows; at most `RunOptions.request_ids_max`."""

    def __len__(self) -> int:
        """Requests."""
        return len(self.intended_ns)

    @property
    def ok(self) -> Mask:
        """Which requests got a whole good answer."""
        good: Mask = self.error == 0
        return good

    @property
    def response_ns(self) -> Longs:
        """Latency from the intended time, -1 where there is no end."""
        return _since(self.done_ns, self.intended_ns)

    @property
    def service_ns(self) -> Longs:
        """Latency from the actual sending, -1 where there is none."""
        return _since(self.done_ns, self.sent_ns)

    @property
    def ttft_ns(self) -> Longs:
        """Time to first token from the intended time."""
        return _since(self.first_content_ns, self.intended_ns)

    @property
    def service_ttft_ns(self) -> Longs:
        """Time to first token from the actual sending."""
        return _since(self.first_content_ns, self.sent_ns)

    @property
    def itl_ns(self) -> NDArray[np.float64]:
        """Inter-token latency of each request: (last content - first content) / (output tokens - 1).

        NaN where the tokens are not known or fewer than two, or where all came in one chunk.
        """
        spans = (self.last_content_ns - self.first_content_ns).astype(np.float64)
        steps = (self.output_tokens - 1).astype(np.float64)
        known = (steps >= 1) & (self.first_content_ns >= 0) & (self.chunks >= 2)
        unknown = np.full(len(self), np.nan)
        result: NDArray[np.float64] = np.divide(spans, steps, out=unknown, where=known)
        return result

    def pooled_gaps_ns(self) -> Ints:
        """The gaps of these requests, without regard to which one they are of."""
        counts = self.gap_counts.astype(np.int64)
        total = int(counts.sum())
        if total == len(self.gaps_ns):
            return self.gaps_ns
        ends = np.cumsum(counts)
        shifts = np.repeat(self.gap_starts - (ends - counts), counts)
        return self.gaps_ns[shifts + np.arange(total)]

    def gaps_of(self, row: int) -> Ints:
        """The gaps of one request."""
        start = int(self.gap_starts[row])
        return self.gaps_ns[start : start + int(self.gap_counts[row])]

    def select(self, mask: Mask) -> "Samples":
        """Those requests that `mask` is true for; gaps are shared, not copied."""
        columns = {name: getattr(self, name)[mask] for name in _COLUMNS}
        places = np.cumsum(mask) - 1
        kept = mask[self.request_rows]
        ids = tuple(each for each, is_kept in zip(self.request_ids, kept, strict=True) if is_kept)
        rows = places[self.request_rows[kept]].astype(np.int64)
        return Samples(**columns, gaps_ns=self.gaps_ns, request_rows=rows, request_ids=ids)

    @classmethod
    def empty(cls) -> Self:
        """Of no request."""
        columns = {name: np.zeros(0, kind) for name, kind in _COLUMNS.items()}
        none = np.zeros(0, np.int64)
        return cls(**columns, gaps_ns=np.zeros(0, np.int32), request_rows=none, request_ids=())

    @classmethod
    def merge(cls, parts: "list[Samples]") -> "Samples":
        """All requests of several, in order of intended time."""
        parts = [part for part in parts if len(part)]
        if len(parts) <= 1:
            return parts[0].sorted() if parts else cls.empty()
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
        sizes = np.cumsum([0, *(len(part) for part in parts)])
        gap_sizes = np.cumsum([0, *(len(part.gaps_ns) for part in parts)])
        columns["gap_starts"] = np.concatenate(
            [part.gap_starts + offset for part, offset in zip(parts, gap_sizes, strict=False)]
        )
        rows = [part.request_rows + offset for part, offset in zip(parts, sizes, strict=False)]
        return cls(
            **columns,
            gaps_ns=np.concatenate([part.gaps_ns for part in parts]),
            request_rows=np.concatenate(rows),
            request_ids=tuple(each for part in parts for each in part.request_ids),
        ).sorted()

    def sorted(self) -> "Samples":
        """In order of intended time; itself if it is so already."""
        if bool(np.all(self.intended_ns[1:] >= self.intended_ns[:-1])):
            return self
        order = np.argsort(self.intended_ns, kind="stable")
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(len(order))
        columns = {name: getattr(self, name)[order] for name in _COLUMNS}
        rows = places[self.request_rows]
        by_row = np.argsort(rows)
        ids = tuple(self.request_ids[each] for each in by_row)
        return Samples(**columns, gaps_ns=self.gaps_ns, request_rows=rows[by_row], request_ids=ids)

    def save(self, path: Path) -> None:
        """Write to a compressed `.npz` file."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                allow_pickle=False,
                gaps_ns=self.gaps_ns,
                request_rows=self.request_rows,
                request_ids=np.array(self.request_ids, np.str_),
                **columns,
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises `ConfigurationError` for anything else."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                columns = {name: stored[name].astype(kind) for name, kind in _COLUMNS.items()}
                ids = tuple(map(str, stored["request_ids"]))
                gaps = stored["gaps_ns"].astype(np.int32)
                rows = stored["request_rows"].astype(np.int64)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"{path} holds no samples: {error}.", hint="Name a file that a load test has written."
            ) from None
        return cls(**columns, gaps_ns=gaps, request_rows=rows, request_ids=ids)


def _since(ends: Longs, starts: Longs) -> Longs:
    return np.where((ends >= 0) & (starts >= 0), ends - starts, np.int64(NEVER))
