"""One HTTP/1.1 connection to an upstream: writes a request, parses what comes back.

Framing is httptools' (llhttp, strict): it refuses two lengths, a length beside chunks, bare line
feeds, folded headers. What it leaves open is decided here: interim answers, bodies that end with
the connection, bounds, and whether the connection can be used again. It knows no pool: it is told
whom to call when an exchange is over (`finished`) and when it is gone (`lost`).
"""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from slipstream.core import clock
from slipstream.core.errors import UpstreamFailed
from slipstream.core.pool import Slot, Why
from slipstream.net.response import PAUSE_BYTES, Response

JOIN_BYTES = 16 * 1024
"""Head and body are joined up to here; beyond, both go out in one gathering write without a copy."""


class Connection(asyncio.Protocol):
    """A connection that is made, used for one exchange after the other, and lost.

    Args:
        loop: the running loop.
        header_bytes: most bytes of a head, interim ones included, and of what else is no body.
        finished: called once an exchange is over; None = the connection can be used again, otherwise
            why it cannot. `lost` = it had died before this exchange, which may be repeated on another.
        lost: called as soon as the connection is of no use (`is_lost`), and again when it is closed
            (`transport` is None); after `finished` where an exchange was under way.
    """

    __slots__ = (
        "_feed",
        "_finished",
        "_has_ended",
        "_header_bytes",
        "_headers",
        "_is_head_only",
        "_is_kept",
        "_is_until_eof",
        "_loop",
        "_lost",
        "_parser",
        "_parts",
        "_pending_bytes",
        "_response",
        "_transport",
        "arrived_ns",
        "exchanges",
        "is_lost",
        "on_body",
        "slot",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        header_bytes: int,
        finished: "Callable[[Connection, Why | None], None]",
        lost: "Callable[[Connection], None]",
    ) -> None:
        self.slot: Slot[Connection] | None = None
        self.is_lost = False
        self.exchanges = 0
        self.arrived_ns = 0  # when bytes last came
        self._loop = loop
        self._header_bytes = header_bytes
        self._finished = finished
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self.on_body = self._parts.append  # called by the parser, without a Python frame
        self._pending_bytes = 0  # received since the last byte of a body
        self._has_ended = False
        self._is_head_only = False
        self._is_kept = False
        self._is_until_eof = False
        self._parser: httptools.HttpResponseParser = httptools.HttpResponseParser(self)
        self._feed: Callable[[bytes], None] = self._parser.feed_data

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport below, for what is known of the peer."""
        return self._transport

    def send(self, head: bytes, body: bytes, *, is_head_only: bool = False) -> Response:
        """Write a request in one go; its response is filled as the answer arrives."""
        assert self._response is None
        transport = self._transport
        self.exchanges += 1
        self._is_head_only = is_head_only
        response = self._response = Response(self, self._loop.create_future)
        if self.is_lost or transport is None:
            self._lose(response, None)
        elif not body:
            transport.write(head)
        elif len(body) <= JOIN_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        return response

    def cut(self) -> None:
        """Close at once: the rest of the answer is not wanted."""
        if self._response is not None:
            self._response = None
            self._finished(self, "abandoned")
        self.abort()

    def abort(self) -> None:
        """Close at once. Safe at any time."""
        if self._transport is not None and not self._loop.is_closed():
            self._transport.abort()

    def resume(self) -> None:
        """Go on reading after a pause."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open. Both event loops set TCP_NODELAY; a test holds them to it."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse, pass on what came, and see whether this was the end."""
        response = self._response
        if response is None:
            self._drop()  # bytes that nobody asked for
            return
        self.arrived_ns = arrived_ns = clock.monotonic_ns()
        self._pending_bytes += len(data)
        failure = None
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            failure = _failure(error, response)
        parts = self._parts
        if parts:
            self._pending_bytes = 0
            response.push(parts[0] if len(parts) == 1 else b"".join(parts), arrived_ns)
            parts.clear()
        if self._has_ended:
            self._end(response, None if failure is None else "broken")
        elif failure is not None:
            self._break(response, failure)
        elif self._is_head_only and response.status:
            self._end(response, "ended")  # the parser still expects a body
        elif self._pending_bytes > self._header_bytes:
            self._break(response, _too_large(self._header_bytes))
        elif response.status:
            if response.unread_bytes > PAUSE_BYTES and not response.is_paused:
                self._pause(response)
            response.wake()

    def eof_received(self) -> None:
        """The upstream will send no more."""
        response = self._response
        if response is None:
            self._drop()
        elif response.status and self._is_until_eof:
            self._end(response, None)
        else:  # now: closing in an orderly way would wait until the rest of the request is out
            self._lose(response, None)
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Gone, whoever closed it."""
        self._transport = None
        self.is_lost = True
        response = self._response
        if response is not None:
            self._lose(response, error)
        self._lost(self)
        del self._parser, self._feed  # each holds us: break the cycle now

    # The parser's side; `on_body` is set above.

    def on_message_begin(self) -> None:
        """A second message behind the one that was asked for: the connection cannot be trusted."""
        if self._has_ended:
            raise UpstreamFailed("The upstream sent a second answer.", code="upstream_malformed")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer: those are left out."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there; an interim one (1xx) is skipped."""
        headers = self._headers
        status = self._parser.get_status_code()
        if self._pending_bytes > self._header_bytes and _size(headers) > self._header_bytes:
            raise _too_large(self._header_bytes)
        if status < 100 or status == 101:
            raise UpstreamFailed(f"The upstream answered with status {status}.", code="upstream_malformed")
        if status < 200:
            headers.clear()
            return
        response = self._response
        assert response is not None
        response.headers = tuple(headers)
        response.arrived_ns = self.arrived_ns
        self._is_kept = self._parser.should_keep_alive()
        if not self._is_kept:
            self._is_until_eof = not response.header(b"content-length") and _is_until_eof(response)
        response.status = status

    def on_message_complete(self) -> None:
        """The message is there; an interim one is not what was asked for."""
        if self._response is not None and self._response.status:
            self._has_ended = True

    # Ends of an exchange.

    def _end(self, response: Response, why: Why | None) -> None:
        """The answer is complete. `why`: what speaks against using the connection again, if anything."""
        transport = self._transport
        assert transport is not None
        if not self._is_kept:
            why = "ended"
        elif why is None and transport.get_write_buffer_size():
            why = "abandoned"  # answered before the request was out: its rest would be read as the next one
        self._response = None
        self._headers.clear()
        self._pending_bytes = 0
        self._has_ended = self._is_until_eof = False
        if response.is_paused:
            transport.resume_reading()
        if why is not None:
            transport.abort()
        self._finished(self, why)
        response.end()

    def _break(self, response: Response, failure: UpstreamFailed) -> None:
        self._response = None
        response.fail(failure)
        self._finished(self, "broken")
        self.abort()

    def _lose(self, response: Response, error: Exception | None) -> None:
        """Closed below us. A kept connection without a single byte of answer had died before we used it."""
        self._response = None
        is_stale = self.exchanges > 1 and not self._pending_bytes and not response.status
        response.fail(_cut_short(response, error), is_stale=is_stale)
        self._finished(self, "lost" if is_stale else "broken")

    def _drop(self) -> None:
        """Nothing is under way: be gone from the pool before anybody is given this."""
        self.is_lost = True
        self._lost(self)
        self.abort()

    def _pause(self, response: Response) -> None:
        assert self._transport is not None
        response.is_paused = True
        self._transport.pause_reading()


def _is_until_eof(response: Response) -> bool:
    """Whether the body ends with the connection; refuses a transfer coding that we did not ask for."""
    coding = response.header(b"transfer-encoding")
    if not coding:
        return True
    if coding.lower() == b"chunked":
        return False
    raise UpstreamFailed("The upstream used an unknown transfer coding.", code="upstream_malformed")


def _failure(error: httptools.HttpParserError, response: Response) -> UpstreamFailed:
    """What the parser found, or what one of our callbacks raised through it."""
    if isinstance(error.__context__, UpstreamFailed):
        return error.__context__
    if response.status:
        return UpstreamFailed(f"The answer broke off: {error}.", code="upstream_broke")
    return UpstreamFailed(
        f"The upstream did not answer in HTTP/1.1: {error}.",
        hint="Check scheme, host and port of its `url`.",
        code="upstream_malformed",
    )


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _too_large(limit: int) -> UpstreamFailed:
    return UpstreamFailed(
        f"The upstream sent a header of more than {limit} bytes.", code="upstream_header_too_large"
    )


def _cut_short(response: Response, error: Exception | None) -> UpstreamFailed:
    how = f" ({error})" if error is not None else ""
    if response.status:
        return UpstreamFailed(f"The upstream broke off inside its answer{how}.", code="upstream_broke")
    return UpstreamFailed(f"The upstream closed without an answer{how}.", code="upstream_closed")
