"""The server side of a connection: uvicorn's httptools protocol, made stricter, without ASGI.

What uvicorn 0.54 leaves open is closed here (field measurements in docs/decisions/0004): header time,
size and count, body size and rate, a bound on pipelining, what becomes of a connection after a refusal.
What a head must say is `framing`'s business. Timeouts are not armed per request: a sweep each half
second asks every connection (`overdue`).

Receiving and answering go on side by side. Reading is never paused: a client that leaves must be heard
however much it has sent ahead. What comes after the last request that will be answered is thrown away.
"""

import asyncio
import logging
from collections.abc import Callable

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from slipstream.core.errors import BadRequest, SlipstreamError, Unavailable
from slipstream.gateway import framing
from slipstream.gateway.exchange import Exchange
from slipstream.gateway.service import Service
from slipstream.gateway.turns import Turns

log = logging.getLogger(__name__)

RATE_GRACE_SECONDS = 10.0
"""Over how long the least body rate is measured."""

FIRST_WORD_SECONDS = 1.0
"""While draining, how long a connection that has just been made may take to send its first request."""

WRITE_BUFFER_BYTES = 64 * 1024
"""Bytes that wait for a slow client before its model is made to wait; at a quarter of them it goes on."""

LINGER_SECONDS = 2.0
"""How long a refused client may go on sending before its connection is cut (RFC 9112 §9.6): a close with
bytes unread would reset the connection and could take the refusal with it."""

LINGER_BYTES = 16 * 1024 * 1024
"""How much of that is taken off its hands and thrown away."""


class GatewayProtocol(HttpToolsProtocol):
    """One connection of a client.

    `_phase` says what is being received: nothing (`idle`), a `header` or a `body` of `_incoming`.
    What has been received whole is in `_turns`.
    """

    def __init__(self, service: Service, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self._service = service
        self._settings = service.settings
        self._turns = Turns()
        self._incoming: Exchange | None = None
        self._server: asyncio.Task[None] | None = None  # answers one request after the other
        self._turn: Exchange | None = None  # the one that it is to answer next
        self._bell: asyncio.Future[None] | None = None  # it waits for that
        self._phase = "idle"
        self._since = self.loop.time()
        self._wire_bytes = 0  # received in this phase, give or take what came together with its beginning
        self._lines = 0
        self._hosts = 0
        self._is_behind = False  # this request began in the same packet as what was before it
        self._owes_continue = False
        self._has_answered = False
        self._is_deaf = False  # what comes in is thrown away
        self._is_cut = False  # the client may not know that
        self._thrown_bytes = 0
        self._paused_at: float | None = None  # since when the client does not read
        self._ended_at: float | None = None  # since when it is to leave

    @property
    def serving(self) -> "asyncio.Task[None] | None":
        """The task that answers its requests, if it has one."""
        return self._server

    # The transport's side.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or turn it away when there are too many."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES, WRITE_BUFFER_BYTES // 4)
        if len(self.connections) > self._settings.connections:
            self._service.counters.count("connections_refused")
            self._refuse(Unavailable("Too many connections.", hint="Try again.", retry_after_seconds=1.0))
            transport.close()  # no lingering: whoever is turned away must not take a place

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone, whoever closed it: whatever is done for the client ends now."""
        self.connections.discard(self)
        self._leave()
        self.flow.resume_writing()
        self.parser = None

    def eof_received(self) -> None:
        """The client sends no more: it has left. What was answered in full still goes out.

        Nobody can tell a client that only closed its sending half from one that is gone, and an answer
        costs as much for either: like nginx and Go's server we take it for the latter.
        """
        self._ended_at = self.loop.time()
        self._leave()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and look at what it leaves half-done."""
        if self._is_deaf:
            self._throw_away(len(data))
            return
        if self._phase == "idle":
            self._enter("header")
        self._wire_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Upgrading is for the server to decline (RFC 9110 §7.8): the request is served, and what
            # follows on this connection is not read, for it may be of the other protocol.
            self._end_after_last()
        except httptools.HttpParserCallbackError:
            log.exception("unexpected error while reading a request")
            self._service.counters.count("unexpected_errors")
            self.transport.abort()
        except httptools.HttpParserError as error:
            if not self._is_deaf:
                self._refuse(BadRequest(f"This is not HTTP we accept: {error}.", code="invalid_http"))
        else:
            if self._phase != "idle" and not self._is_deaf:
                self._check_unfinished()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write; it has `write_seconds` to catch up."""
        super().pause_writing()
        self._paused_at = self.loop.time()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._paused_at = None

    # The parser's side.

    def on_message_begin(self) -> None:
        """A request line comes."""
        self.url = b""
        self._lines = self._hosts = 0
        self._is_behind = self._phase != "header"
        if self._is_behind:
            self._enter("header")
        self._incoming = None if self._is_deaf else Exchange(self.transport, self.flow)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line, or a trailer: those could change what was decided on, and nobody asks for them."""
        exchange = self._incoming
        if exchange is None or self._phase != "header":
            return
        self._lines += 1
        if self._lines > self._settings.header_count:
            self._refuse(framing.header_too_large(self._settings))
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
        version = parser.get_http_version()
        exchange.method = parser.get_method()
        exchange.http11 = version == "1.1"
        exchange.keep_alive = exchange.http11 and parser.should_keep_alive() and not self._service.draining
        error = self._header_error(exchange, version)
        if error is not None:
            self._refuse(error)
            return
        self._enter("body")
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue" and exchange.http11:
            self._owes_continue = True
            if self._turns.active is None:  # else it would stand in the middle of the answer before it
                self._say_continue()

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        exchange = self._incoming
        if exchange is None:
            return
        self._owes_continue = False  # it did not wait for it
        exchange.feed(body)
        if exchange.body_bytes > self._settings.body_bytes:
            self._refuse(framing.body_too_large(self._settings))

    def on_message_complete(self) -> None:
        """The request is whole: serve it, or queue it behind the one before it."""
        exchange, self._incoming = self._incoming, None
        if exchange is None:
            return
        exchange.ready()
        self._owes_continue = False
        self._enter("idle")
        turns = self._turns
        if turns.take(exchange):
            self._start(exchange)
        elif turns.is_crowded(self._settings.body_bytes):
            self._service.counters.count("pipelines_cut")
            self._end_after_last()
        if not exchange.keep_alive:
            self._is_deaf = True  # the client has said that nothing follows

    # Time.

    def overdue(self, now: float) -> str:
        """What this connection is late with, empty if nothing; `now` is the loop's time."""
        settings, age = self._settings, now - self._since
        if self._paused_at is not None and now - self._paused_at > settings.write_seconds:
            return "reader"
        if self._ended_at is not None:
            allowed = settings.write_seconds if self.transport.get_write_buffer_size() else LINGER_SECONDS
            return "end" if now - self._ended_at > allowed else ""
        if self._phase == "header":
            return "header" if age > settings.header_seconds else ""
        if self._phase == "body":
            received = self._incoming.body_bytes if self._incoming is not None else 0
            slow = age > RATE_GRACE_SECONDS and received < age * settings.body_bytes_per_second
            return "body" if slow and not self._owes_continue else ""
        return "idle" if self._turns.active is None and age > self._idle_seconds() else ""

    def expire(self, what: str) -> None:
        """Act on what `overdue` said."""
        if what == "idle":
            self._end()
        elif what == "end":
            self.transport.abort()
        elif what == "reader":
            self._service.counters.count("readers_timed_out")
            self.transport.abort()
        else:
            self._service.counters.count("http_timeouts")
            self._refuse(
                BadRequest(f"The {what} of the request came too slowly.", code="too_slow", status=408)
            )

    def end_when_idle(self) -> None:
        """Draining: close now, or after the answers that are under way."""
        last = self._turns.last()
        if last is not None:
            last.keep_alive = False
        elif self._incoming is None and self._has_answered:
            self._end()  # a new one may have its request on the way: `overdue` gives it a moment

    def stop(self) -> None:
        """The time for draining is over: the answer under way ends with an error."""
        active = self._turns.active
        if active is not None and active.task is not None:
            active.task.cancel()

    # Receiving.

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._since = self.loop.time()
        self._wire_bytes = 0

    def _header_error(self, exchange: Exchange, version: str) -> SlipstreamError | None:
        if not exchange.target(self.url):
            return BadRequest("The request target is not one we serve.", code="invalid_target")
        limits = self._settings
        # the sum is for those that can be over it: nearly every head comes in one small packet of its own
        exact = self._is_behind or self._wire_bytes > limits.header_bytes
        return (
            framing.head_error(exchange, self._hosts, version)
            or framing.size_error(exchange, len(self.url), exact=exact, limits=limits)
            or self._service.guard.check(exchange.method, exchange.headers, path=exchange.path)
        )

    def _check_unfinished(self) -> None:
        """Bound a head that does not end, and a body that is all framing."""
        if self._phase == "header":
            if self._wire_bytes > self._settings.header_bytes:
                self._refuse(framing.header_too_large(self._settings))
        elif self._incoming is not None and framing.is_padded(self._incoming.body_bytes, self._wire_bytes):
            self._refuse(framing.padded())

    def _throw_away(self, count: int) -> None:
        self._thrown_bytes += count
        if self._thrown_bytes > LINGER_BYTES:
            self.transport.abort()

    def _say_continue(self) -> None:
        self._owes_continue = False
        self._since = self.loop.time()
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _idle_seconds(self) -> float:
        if self._service.draining:
            return FIRST_WORD_SECONDS
        settings = self._settings
        return settings.keep_alive_seconds if self._has_answered else settings.header_seconds

    # Answering.

    def _start(self, exchange: Exchange) -> None:
        exchange.date = self._service.date
        if exchange.refusal is not None:
            self._service.refuse(exchange, exchange.refusal)
            self._finished(exchange)
            return
        if self._server is None:
            self._server = self.loop.create_task(self._serve(exchange))
        else:
            self._turn = exchange
            if self._bell is not None and not self._bell.done():
                self._bell.set_result(None)
        exchange.task = self._server

    async def _serve(self, exchange: Exchange) -> None:
        """Answer a request and those after it: a task for each would cost 4 us more a request."""
        is_served = False
        try:
            while True:
                is_served = False
                await self._service.handler(exchange)
                is_served = True
                self._finished(exchange)
                while self._turn is None:
                    self._bell = self.loop.create_future()
                    await self._bell
                    self._bell = None
                exchange, self._turn = self._turn, None
        finally:  # cancelled: what follows on the connection, if anything, is for another task
            self._server = self._bell = None
            if not is_served:
                self._finished(exchange)

    def _finished(self, exchange: Exchange) -> None:
        """The answer is out: on to the next request, or wait for one."""
        self._has_answered = True
        following = self._turns.pass_on()
        if exchange.gone or self.transport.is_closing():
            return
        if not exchange.complete:
            exchange.abort()
        elif not exchange.keep_alive:
            self._end()
        elif following is not None:
            self._start(following)
        elif self._phase == "idle":
            self._since = self.loop.time()
        elif self._owes_continue:
            self._say_continue()

    def _refuse(self, error: SlipstreamError) -> None:
        """Answer a request that will not be read any further, and close: what follows cannot be trusted."""
        self._is_deaf = self._is_cut = True
        self._service.counters.count("http_errors")
        exchange, self._incoming = self._incoming or Exchange(self.transport, self.flow), None
        exchange.refusal = error
        exchange.keep_alive = False
        self._phase = "idle"
        if not self.transport.is_closing() and self._turns.take(exchange):
            self._start(exchange)

    def _end_after_last(self) -> None:
        self._is_deaf = self._is_cut = True
        last = self._turns.last()
        if last is None:
            self._end()
        else:
            last.keep_alive = False

    def _end(self) -> None:
        """No more answers: close, but hear out a client that may still be sending."""
        self._ended_at = self.loop.time()
        if self._is_cut or self._thrown_bytes:
            self.transport.write_eof()
        else:
            self.transport.close()

    def _leave(self) -> None:
        self._is_deaf = True
        self._incoming = None
        self._turns.leave()
        if self._bell is not None and self._server is not None:
            self._server.cancel()


def connection_factory(service: Service, config: Config, state: ServerState) -> Callable[[], GatewayProtocol]:
    """What `loop.create_server` calls for each connection."""
    return lambda: GatewayProtocol(service, config, state)
