"""What the parts may expect of each other: the ports that a model, a reply and a sink of records fill."""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from slipstream.core.chat import ChatRequest
from slipstream.core.record import Record


class Head(msgspec.Struct, frozen=True):
    """The first item of every answer: status and headers, before any byte of the body."""

    status: int
    content_type: bytes = b"application/json"
    streamed: bool = False
    """The body is a stream of server-sent events."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    length: int | None = None
    """Bytes of the whole body, where they are known beforehand."""


class Chunk(msgspec.Struct, frozen=True):
    """Bytes of an answer's body as they arrived together.

    Of a streamed answer each item of `events` is one whole server-sent event, blank line included;
    of any other, `events` holds pieces of the body in order.
    """

    events: tuple[bytes, ...]
    arrived_ns: int
    """`clock.monotonic_ns()` when the bytes came off the wire (or out of the model)."""


class Forwarded(msgspec.Struct, frozen=True):
    """A request of the API outside the calls that we know, to be passed on as it is."""

    method: str
    path: str
    """What followed `/v1`, query included."""
    headers: dict[bytes, bytes]
    """By lower-case name, all that the caller sent; the backend picks what may leave."""
    body: bytes
    secret: str = ""


class Reply(Protocol):
    """An answer that is under way: its head is known, its body arrives."""

    @property
    def head(self) -> Head:
        """Status and headers."""
        ...

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """The body. Raises `UpstreamFailed` if it breaks before its end."""
        ...

    async def aclose(self) -> None:
        """Let go of it: an unfinished one is cancelled at its source at once. Never raises."""
        ...


class Model(Protocol):
    """A backend that answers requests: embedded, upstream or simulated."""

    @property
    def name(self) -> str:
        """What the record calls it (`upstream` column)."""
        ...

    async def open(self, request: ChatRequest, record: Record) -> Reply:
        """Send the request; return when the head is known.

        May add to `record` what only the backend knows (its own queue wait, defaults it filled in).
        Cancelling this call frees whatever it had taken. Raises `BadRequest` for what the backend
        cannot take, `UpstreamFailed` or `UpstreamTimeout` otherwise.
        """
        ...

    async def aclose(self) -> None:
        """Close connections, threads and children."""
        ...


class RecordSink(Protocol):
    """Where closed records go. Taking one never waits; one that finds no room is counted as dropped."""

    def take(self, record: Record) -> None:
        """Keep `record`, which is closed and will not change any more."""
        ...
