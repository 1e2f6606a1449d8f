"""One HTTP/1.1 connection to the simulator: requests in, answers out, in order. It decides no answer."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import cast

import httptools

from slipstream.core import clock
from slipstream.core.errors import BadRequest, SlipstreamError
from slipstream.models.simulated_plan import Plan
from slipstream.testing.simulator_service import Request, Service
from slipstream.testing.simulator_wire import Framing, Write

BODY_BYTES_MAX = 32 * 1024 * 1024
"""Largest request body."""

HEADER_BYTES_MAX = 64 * 1024
"""Largest header; what comes with one read of the loop is not cut."""

PIPELINE_MAX = 64
"""Requests read ahead of the answer; beyond it the connection is not read until they are answered."""

CONNECTIONS_MAX = 10_000
"""Open connections; the next one is closed at once."""

HANG_SECONDS = 86_400.0
"""How long a scripted silence lasts if the client does not leave."""

_RESET = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    """Reads requests and plays their answers, one after the other."""

    def __init__(self, service: Service, crew: "set[Connection]") -> None:
        self.transport: asyncio.Transport
        self.gone: asyncio.Future[None]
        self.writable = True
        self._service = service
        self._crew = crew
        self._parser = httptools.HttpRequestParser(self)
        self._pending: deque[Request] = deque()
        self._exchange: Exchange | None = None
        self._deaf = False
        self._in_header = False
        self._header_bytes = 0
        self._continue_due = False
        self._reading = True
        self._begin_request()

    def _begin_request(self) -> None:
        self._url = b""
        self._body = b""
        self._pieces: list[bytes] = []
        self._body_bytes = 0
        self._announced = 0
        self._script = ""
        self._connection_named = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.gone = asyncio.get_running_loop().create_future()
        if len(self._crew) >= CONNECTIONS_MAX:
            self._deaf = True
            self.transport.abort()
            return
        self._crew.add(self)
        self._service.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left: what runs for it ends now."""
        self._deaf = True
        self._pending.clear()
        if self in self._crew:
            self._crew.discard(self)
            self._service.connections -= 1
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
        if not self.gone.done():
            self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._deaf:
            return
        was_in_header = self._in_header
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(BadRequest("This server upgrades to nothing.", code="bad_http"))
        except httptools.HttpParserError as error:
            self._refuse(BadRequest(f"This is not HTTP: {error}.", code="bad_http"))
        if was_in_header and self._in_header:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES_MAX:
                self._refuse(BadRequest("The header is too large.", status=431, code="header_too_large"))
        if len(self._pending) >= PIPELINE_MAX and self._reading:
            self._reading = False
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self.writable = False

    def resume_writing(self) -> None:
        """It has caught up."""
        self.writable = True
        if self._exchange is not None:
            self._exchange.resume()
        else:
            self._advance()

    def on_message_begin(self) -> None:
        """A request starts."""
        self._begin_request()
        self._in_header = True
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Its target, perhaps in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        size = len(name)
        if size == 10 and name.lower() == b"x-simulate":
            self._script = value.decode("latin-1")
        elif size == 10 and name.lower() == b"connection":
            self._connection_named = True
        elif size == 6 and name.lower() == b"expect" and value.lower() == b"100-continue":
            self._continue_due = True
        elif size == 14 and name.lower() == b"content-length" and value.isdigit():
            self._announced = int(value)

    def on_headers_complete(self) -> None:
        """The body follows, if there is one."""
        self._in_header = False
        if self._announced > BODY_BYTES_MAX:
            self._too_large()
        elif self._continue_due:
            self._send_continue()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._deaf:
            return
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            self._too_large()
        elif self._body:
            self._pieces.append(body)
        else:
            self._body = body

    def on_message_complete(self) -> None:
        """A request is there whole."""
        if self._deaf:
            return
        self._continue_due = False
        body = b"".join((self._body, *self._pieces)) if self._pieces else self._body
        parser, path = self._parser, self._url
        alive = parser.should_keep_alive()
        idle = self._exchange is None and not self._pending and self.writable
        if idle and alive and not self._script and not self._connection_named and body:
            quick = self._service.quick(path, body) if parser.get_method() == b"POST" else None
            if quick is not None:
                self.transport.write(quick)
                return
        if b"?" in path:
            path = path.partition(b"?")[0]
        method = parser.get_method()
        chunked = parser.get_http_version() != "1.0"
        framing = Framing(chunked=chunked, keep_alive=alive and chunked, head_only=method == b"HEAD")
        self._pending.append(Request(method, path, self._script, body, framing))
        self._advance()

    def answered(self, *, keep_alive: bool) -> None:
        """The exchange that ran is over."""
        self._exchange = None
        if keep_alive:
            self._advance()
        else:
            self._hang_up()

    def reset(self) -> None:
        """Close with a reset, as soon as what was written is out."""
        self._deaf = True
        if self.transport.get_write_buffer_size() and not self.transport.is_closing():
            asyncio.get_running_loop().call_later(0.001, self.reset)
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _advance(self) -> None:
        """Begin the next answers for as long as they end at once."""
        while self._pending and self._exchange is None and self.writable:
            request = self._pending.popleft()
            answer = self._service.control(request)
            if answer is None:
                answer = self._start(request)
            if answer is not None:
                self.transport.write(answer)
                if not request.framing.keep_alive:
                    self._hang_up()
        if not self._reading and len(self._pending) < PIPELINE_MAX and not self._deaf:
            self._reading = True
            self.transport.resume_reading()
        if self._continue_due:
            self._send_continue()

    def _start(self, request: Request) -> bytes | None:
        """Begin to play an answer; the bytes of a refusal if it is refused."""
        service = self._service
        now_ns = clock.monotonic_ns()
        try:
            plan = service.plan(request)
            exchange = Exchange(self, service, plan, request.framing)
            self._exchange = exchange
            if plan.immediate or service.slots.enter(exchange):
                asyncio.get_running_loop().call_soon(exchange.start, now_ns)
        except SlipstreamError as error:
            self._exchange = None
            return service.refuse(error, request.framing)
        return None

    def _send_continue(self) -> None:
        if self._exchange is None and not (self._pending or self._deaf):
            self._continue_due = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _too_large(self) -> None:
        self._refuse(BadRequest("The body is too large.", status=413, code="body_too_large"))

    def _refuse(self, error: BadRequest) -> None:
        """Answer what cannot be read on, after all that came before it, and close."""
        if self._deaf:
            return
        self._deaf = True
        self._continue_due = False
        self._pending.append(Request(b"", b"", framing=Framing(keep_alive=False), refusal=error))
        self._advance()

    def _hang_up(self) -> None:
        self._deaf = True
        self._pending.clear()
        self.transport.close()


class Exchange:
    """One answer while it is played: its slot and its timer."""

    def __init__(self, connection: Connection, service: Service, plan: Plan, framing: Framing) -> None:
        self._connection = connection
        self._service = service
        self._keep_alive = framing.keep_alive
        self._writes: Iterator[Write] = service.play(plan, framing)
        self._next: Write | None = None
        self._due_ns = 0
        self._timer: asyncio.Handle | None = None
        self._over = False

    def start(self, now_ns: int) -> None:
        """The slot is there, since `now_ns`."""
        if not self._over:
            self._due_ns = now_ns
            self._proceed()

    def resume(self) -> None:
        """The client reads again."""
        if self._timer is None and self._due_ns and not self._over:
            self._proceed()

    def cancel(self) -> None:
        """The client has left."""
        if not self._over:
            self._service.tally.aborted += 1
            self._finish()

    def _proceed(self) -> None:
        """Send what is due; come back when the next is."""
        loop = asyncio.get_running_loop()
        connection = self._connection
        self._timer = None
        while connection.writable and not self._over:
            write = self._next
            if write is None:
                write = next(self._writes)
                self._due_ns += write.after_ns
                self._next = write
                wait_ns = self._due_ns - clock.monotonic_ns() if write.after_ns else 0
                if wait_ns > 0:
                    self._timer = loop.call_later(wait_ns / 1e9, self._proceed)
                    return
            self._next = None
            if write.data:
                connection.transport.write(write.data)
            if write.end:
                self._end(write)
                return
            if write.alone:
                self._timer = loop.call_soon(self._proceed)
                return

    def _end(self, write: Write) -> None:
        if write.end == "hang":
            loop = asyncio.get_running_loop()  # the slot is held until the client leaves
            self._timer = loop.call_later(HANG_SECONDS, self._connection.transport.abort)
            return
        self._service.tally.served += 1
        self._finish()
        if write.end == "cut":
            self._connection.reset()
        else:
            self._connection.answered(keep_alive=self._keep_alive and write.end == "done")

    def _finish(self) -> None:
        """Give back what is held, and tell who comes next."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        heir = self._service.slots.leave(self)
        if isinstance(heir, Exchange):
            asyncio.get_running_loop().call_soon(heir.start, clock.monotonic_ns())
