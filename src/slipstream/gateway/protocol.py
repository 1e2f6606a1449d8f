"""The server side of a connection: uvicorn's httptools protocol, made stricter, without ASGI.

What uvicorn 0.54 leaves open is closed here (field measurements in docs/decisions/0004): header time,
size and count, exactly one Host, body size and rate, a bound on pipelining. Timeouts are not armed per
request: one sweep a second asks every connection (`overdue`).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from slipstream.config.settings import Server
from slipstream.core.errors import BadRequest, SlipstreamError, Unavailable
from slipstream.core.meters import Counters
from slipstream.gateway.exchange import Exchange
from slipstream.gateway.guard import Guard

log = logging.getLogger(__name__)

PIPELINED_MAX = 32
"""Requests that may wait on one connection; nobody we know of pipelines more than a handful."""

RATE_GRACE_SECONDS = 10.0
"""Over how long the least body rate is measured."""

FIRST_WORD_SECONDS = 1.0
"""While draining, how long a connection that has just been made may take to send its first request."""


class Service(Protocol):
    """What the protocol hands requests to."""

    settings: Server
    guard: Guard
    counters: Counters
    date: bytes
    draining: bool

    def handler(self, exchange: Exchange) -> Awaitable[None]:
        """Serve a request; it may raise nothing."""
        ...

    def refuse(self, exchange: Exchange, error: SlipstreamError) -> None:
        """Answer with an error in the dialect of the route."""
        ...


class GatewayProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(self, service: Service, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self._service = service
        self._settings = service.settings
        self._exchange: Exchange | None = None
        self._incoming: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._phase = "idle"
        self._since = self.loop.time()
        self._header_bytes = 0
        self._hosts = 0
        self._closing = False
        self._answered = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or turn it away when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._settings.connections:
            self._service.counters.count("connections_refused")
            self._refuse_now(Unavailable("Too many connections.", hint="Try again.", retry_after_seconds=1.0))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left: whatever is done for it ends now."""
        self.connections.discard(self)
        for exchange in (self._exchange, self._incoming, *self._queue):
            if exchange is not None and not exchange.complete:
                exchange.gone = True
                if exchange.task is not None:
                    exchange.task.cancel()
        self._queue.clear()
        self._incoming = None
        self.flow.resume_writing()
        self.parser = None

    def data_received(self, data: bytes) -> None:
        """Feed the parser; count what belongs to a header."""
        if self._closing:
            return
        if self._phase == "idle":
            self._enter("header")
        if self._phase == "header":
            self._header_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Upgrading is for the server to decline (RFC 9110 §7.8): the request is served, and what
            # follows on this connection is not read, for it may be of the other protocol.
            self._closing = True
            self._close_after()
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError as error:
            if not self._closing:
                self._refuse_now(BadRequest(f"This is not HTTP we accept: {error}.", code="invalid_http"))
        else:
            if self._phase == "header" and self._header_bytes > self._settings.header_bytes:
                self._refuse_now(_header_too_large(self._settings.header_bytes))

    def on_message_begin(self) -> None:
        """A request line comes."""
        self.url = b""
        self._hosts = 0
        self._incoming = Exchange(self.transport, self.flow)
        if self._phase != "header":
            self._header_bytes = 0
            self._enter("header")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        exchange = self._incoming
        if exchange is None:
            return
        name = name.lower()
        headers = exchange.headers
        if name == b"host":
            self._hosts += 1
        if name in headers:
            value = headers[name] + (b"; " if name == b"cookie" else b", ") + value
        headers[name] = value

    def on_headers_complete(self) -> None:
        """The header is whole: decide on it before a byte of the body is read."""
        exchange = self._incoming
        if exchange is None:
            return
        parser, headers = self.parser, exchange.headers
        exchange.method = parser.get_method()
        exchange.http11 = parser.get_http_version() == "1.1"
        exchange.keep_alive = exchange.http11 and parser.should_keep_alive() and not self._service.draining
        exchange.date = self._service.date
        error = self._header_error(exchange)
        if error is not None:
            self._refuse_now(error)
            return
        self._enter("body")
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue" and exchange.http11:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        exchange = self._incoming
        if exchange is None:
            return
        exchange.feed(body)
        if exchange.body_bytes > self._settings.body_bytes:
            self._refuse_now(_body_too_large(self._settings.body_bytes))

    def on_message_complete(self) -> None:
        """The request is whole: serve it, or queue it behind the one before it."""
        exchange, self._incoming = self._incoming, None
        if exchange is None:
            return
        exchange.ready()
        self._header_bytes = 0
        if self._exchange is None:
            self._start(exchange)
            return
        self._queue.append(exchange)
        self._phase = "answer"
        self.flow.pause_reading()
        if len(self._queue) > PIPELINED_MAX:
            self._closing = True  # those that wait are still answered, in order
            self._queue[-1].keep_alive = False

    def overdue(self, now: float) -> str:
        """What this connection is late with, empty if nothing; `now` is the loop's time."""
        settings, age = self._settings, now - self._since
        if self._phase == "idle":
            allowed = FIRST_WORD_SECONDS if self._service.draining else settings.keep_alive_seconds
            return "idle" if age > allowed else ""
        if self._phase == "header":
            return "header" if age > settings.header_seconds else ""
        if self._phase == "body":
            received = self._incoming.body_bytes if self._incoming is not None else 0
            slow = age > RATE_GRACE_SECONDS and received < age * settings.body_bytes_per_second
            return "body" if slow else ""
        if self.flow.write_paused:
            return "reader" if age > settings.write_seconds else ""
        return ""

    def expire(self, what: str) -> None:
        """Act on what `overdue` said."""
        if what == "idle":
            self.transport.close()
            return
        self._service.counters.count("http_timeouts")
        if what == "reader":
            self.transport.abort()
            return
        self._refuse_now(
            BadRequest(f"The {what} of the request came too slowly.", code="too_slow", status=408)
        )

    def pause_writing(self) -> None:
        """The client reads more slowly than we write; it has `write_seconds` to catch up."""
        super().pause_writing()
        self._since = self.loop.time()

    def end_when_idle(self) -> None:
        """Draining: close now, or after the answer that is under way."""
        if self._exchange is not None:
            self._exchange.keep_alive = False
        elif self._incoming is None and self._answered:
            self.transport.close()  # a new one may have its request on the way: `overdue` gives it a moment

    def stop(self) -> None:
        """The time for draining is over: the answer under way ends with an error."""
        if self._exchange is not None and self._exchange.task is not None:
            self._exchange.task.cancel()

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._since = self.loop.time()

    def _header_error(self, exchange: Exchange) -> SlipstreamError | None:
        settings, headers = self._settings, exchange.headers
        if not exchange.target(self.url):
            return BadRequest("The request target is not one we serve.", code="invalid_target")
        if len(headers) > settings.header_count:
            return _header_too_large(settings.header_bytes)
        if self._header_bytes > settings.header_bytes and _size(headers) > settings.header_bytes:
            return _header_too_large(settings.header_bytes)
        if self._hosts != 1:
            return BadRequest("A request must have exactly one Host.", code="invalid_host")
        if b"transfer-encoding" in headers and (not exchange.http11 or b"content-length" in headers):
            return BadRequest("The length of the body is ambiguous.", code="ambiguous_length")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return BadRequest("Content-Length is not a number.", code="ambiguous_length")
        if int(length) > settings.body_bytes:
            return _body_too_large(settings.body_bytes)
        return self._service.guard.check(exchange.method, headers)

    def _start(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._phase = "answer"
        exchange.task = self.loop.create_task(self._serve(exchange))

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await self._service.handler(exchange)
        finally:
            self._finished(exchange)

    def _finished(self, exchange: Exchange) -> None:
        """The answer is out: on to the next request, or wait for one."""
        self._exchange = None
        self._answered = True
        if exchange.gone or self.transport.is_closing():
            return
        if not exchange.complete:
            self.transport.abort()
        elif not exchange.keep_alive:
            self.transport.close()
        elif self._queue:
            self._start(self._queue.popleft())
        else:
            self.flow.resume_reading()
            if self._incoming is None:
                self._enter("idle")

    def _refuse_now(self, error: SlipstreamError) -> None:
        """Answer a request that will not be read any further, and close: what follows cannot be trusted."""
        self._closing = True
        self._service.counters.count("http_errors")
        incoming, self._incoming = self._incoming, None
        if self._exchange is not None or self.transport.is_closing():
            self._close_after()
            return
        exchange = incoming or Exchange(self.transport, self.flow)
        exchange.keep_alive = False
        exchange.date = self._service.date
        self._service.refuse(exchange, error)
        self.transport.close()

    def _close_after(self) -> None:
        """Answers under way go out before the connection is closed, the refusal itself is lost."""
        last = self._queue[-1] if self._queue else self._exchange
        if last is None:
            self.transport.close()
        else:
            last.keep_alive = False


def connection_factory(service: Service, config: Config, state: ServerState) -> Callable[[], GatewayProtocol]:
    """What `loop.create_server` calls for each connection."""
    return lambda: GatewayProtocol(service, config, state)


def _size(headers: dict[bytes, bytes]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers.items())


def _header_too_large(limit: int) -> SlipstreamError:
    return BadRequest(
        f"The header is larger than {limit} bytes or has too many lines.",
        hint="See server.header_bytes and server.header_count.",
        code="header_too_large",
        status=431,
    )


def _body_too_large(limit: int) -> SlipstreamError:
    return BadRequest(
        f"The body is larger than {limit} bytes.",
        hint="See server.body_bytes.",
        code="body_too_large",
        status=413,
    )
