"""What a caller holds of an upstream's answer: its head, then its body as it arrives.

The lower half of `Response` is driven by the connection that parses the answer; nothing here
knows HTTP's syntax.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from slipstream.core.errors import UpstreamFailed

PAUSE_BYTES = 64 * 1024
"""Unread bytes at which the upstream is paused; the read that brings them may bring 256 KiB."""
RESUME_BYTES = 16 * 1024
PART_BYTES = 32 * 1024
"""Most in one piece. All that is made of it on the way is no larger, and kept for each slow reader."""
PIECE_BYTES = 256
"""What keeping a piece costs beside its data: single bytes must not fill memory either."""


def declared_bytes(length: bytes) -> int:
    """What a Content-Length says, 0 if nothing; of a thousand digits, which Python does not read, enough."""
    return int(length.lstrip(b"0")[:20] or b"0") if length.isdigit() else 0


def first_header(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes:
    """The first header of that lower-case name; empty where there is none."""
    for key, value in headers:
        if key == name:
            return value
    return b""


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a body that arrived together, and when (`clock.monotonic_ns()`)."""

    data: bytes
    arrived_ns: int


def _parts(data: bytes) -> Iterator[bytes]:
    """What one read brought, cut to pieces."""
    return (data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES))


class Source(Protocol):
    """Where an answer comes from; the connection in the product, anything in a test."""

    def cut(self) -> None:
        """Close at once: the rest of the answer is not wanted."""
        ...

    def resume(self) -> None:
        """Go on reading after a pause."""
        ...


class Response:
    """An answer whose head has arrived.

    Attributes:
        status: the HTTP status; 0 while the head is not there yet.
        headers: all headers in order, names in lower case.
        arrived_ns: `clock.monotonic_ns()` when the head's last bytes arrived.
        error: why the answer broke, if it did.

    Iterating gives the body as `Piece`s, once, to one reader; chunked coding is removed. It raises
    `UpstreamFailed` (code `upstream_broke`) where the body breaks off, after all that had arrived.
    A cancelled iteration closes the response: nothing is left behind whoever forgets.
    """

    __slots__ = (
        "_create_future",
        "_is_over",
        "_is_read",
        "_pieces",
        "_source",
        "_waiter",
        "arrived_ns",
        "error",
        "headers",
        "is_paused",
        "is_stale",
        "status",
        "unread_bytes",
    )

    def __init__(self, source: Source, create_future: Callable[[], asyncio.Future[None]]) -> None:
        self.status = 0
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.arrived_ns = 0
        self.is_paused = False
        self.is_stale = False
        self.unread_bytes = 0
        self._create_future = create_future
        self._source: Source | None = source
        self._pieces: list[Piece] = []  # a few hundred at most, see PIECE_BYTES: taking the first is cheap
        self._waiter: asyncio.Future[None] | None = None
        self.error: UpstreamFailed | None = None
        self._is_over = False
        self._is_read = False

    def header(self, name: bytes) -> bytes:
        """The first header of that lower-case name; empty where there is none."""
        return first_header(self.headers, name)

    @property
    def whole(self) -> bytes | None:
        """The full body if all of it is here and nothing of it was iterated; else None."""
        if not self._is_over or self._is_read or self.error is not None:
            return None
        pieces = self._pieces
        if not pieces:
            return b""
        if len(pieces) > 1:
            joined = b"".join([piece.data for piece in pieces])
            pieces[:] = [Piece(joined, pieces[-1].arrived_ns)]
            self.unread_bytes = len(joined) + PIECE_BYTES
        return pieces[0].data

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `UpstreamFailed` (code `answer_too_large`) beyond `limit` bytes."""
        if declared_bytes(self.header(b"content-length")) > limit:
            self._refuse(limit)
        parts: list[bytes] = []
        size = 0
        async for piece in self:
            size += len(piece.data)
            if size > limit:
                self._refuse(limit)
            parts.append(piece.data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Let go of it. An unfinished answer is cancelled at its source at once. Never raises."""
        source, self._source = self._source, None
        self._pieces.clear()
        self._is_read = True
        if source is not None:
            self._is_over = True
            self.error = UpstreamFailed("The answer was closed before its end.", code="answer_closed")
            source.cut()
            self.wake()

    def __aiter__(self) -> "Response":
        return self

    async def __anext__(self) -> Piece:
        self._is_read = True
        while not self._pieces:
            if self.error is not None:
                raise self.error
            if self._is_over:
                raise StopAsyncIteration
            arrived = False
            try:
                await self.wait()
                arrived = True
            finally:
                if not arrived:
                    self.close()
        piece = self._pieces.pop(0)
        self.unread_bytes -= len(piece.data) + PIECE_BYTES
        if self.is_paused and self.unread_bytes <= RESUME_BYTES and self._source is not None:
            self.is_paused = False
            self._source.resume()
        return piece

    def _refuse(self, limit: int) -> None:
        self.close()
        raise UpstreamFailed(
            f"The answer is larger than {limit} bytes.",
            hint="Raise `models.answer_bytes`, or ask for less.",
            code="answer_too_large",
        )

    # Driven by the connection.

    def wait(self) -> asyncio.Future[None]:
        """Done at the next event: the head, more of the body, the end. One waits at a time."""
        waiter = self._waiter = self._create_future()
        return waiter

    def wake(self) -> None:
        """Something happened; see `wait`."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def push(self, data: bytes, arrived_ns: int) -> None:
        """More of the body."""
        for part in (data,) if len(data) <= PART_BYTES else _parts(data):
            self._pieces.append(Piece(part, arrived_ns))
            self.unread_bytes += len(part) + PIECE_BYTES

    def end(self) -> None:
        """The body is complete, the source has moved on."""
        self._source = None
        self._is_over = True
        waiter = self._waiter
        if waiter is not None:  # `wake`, without a call on the way of every answer
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: UpstreamFailed, *, is_stale: bool = False) -> None:
        """It broke; what arrived before can still be read. Stale: no byte came on a kept connection."""
        self._source = None
        self._is_over = True
        self.error = error
        self.is_stale = is_stale
        self.wake()
