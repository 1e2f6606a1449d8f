"""One request and its answer on a connection. Writes bytes; knows no route and no dialect."""

import asyncio
import http
import socket
import struct
from collections.abc import Iterable

from uvicorn.protocols.http.flow_control import FlowControl

from slipstream.core.errors import SlipstreamError
from slipstream.core.record import new_id

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus
}
REQUEST_ID = b"x-request-id"
_EXPOSED = b"access-control-expose-headers: x-request-id, server-timing, retry-after\r\n"
_ENDS_CHUNKS = b"0\r\n\r\n"
PIECE_BYTES = 64 * 1024
"""Most that is given to the connection at once; it keeps whatever it is given, however slow the client."""

_NO_LINGER = struct.pack("ii", 1, 0)


class Exchange:
    """What a handler sees of a request, and where it puts the answer.

    Attributes:
        method, path, query: of the request line; the path as it came, not decoded.
        authority: the server named in the request line; empty in the usual form, which names none.
        headers: by lower-case name; values of repeated ones joined by comma.
        body: the whole request body.
        started: the answer's head has been given.
        cors: the origin whose page may read the answer, empty for none.
        complete: the answer's last byte has been given.
        gone: the client has left; whatever is written goes nowhere.
        refusal: why the request is not served, if it could not even be read to its end.
    """

    __slots__ = (
        "_chunked",
        "_head",
        "_left",
        "_received",
        "_transport",
        "authority",
        "body",
        "body_bytes",
        "complete",
        "cors",
        "date",
        "flow",
        "gone",
        "headers",
        "http11",
        "keep_alive",
        "method",
        "path",
        "query",
        "refusal",
        "started",
        "task",
    )

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self._transport = transport
        self._received: bytearray | None = None
        self._head = b""
        self._chunked = False
        self._left: int | None = None
        self.flow = flow
        self.method = b""
        self.path = b""
        self.authority = b""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.body_bytes = 0
        self.cors = b""
        self.date = b""
        self.http11 = True
        self.keep_alive = True
        self.started = False
        self.complete = False
        self.gone = False
        self.refusal: SlipstreamError | None = None
        self.task: asyncio.Task[None] | None = None

    def target(self, url: bytes) -> bool:
        """Take the request target apart; False for one that is none."""
        if not url.startswith(b"/"):  # absolute form, which a server must accept (RFC 9112 §3.2.2)
            scheme, _, rest = url.partition(b"://")
            if scheme.lower() not in (b"http", b"https"):
                return False
            end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
            self.authority, url = rest[:end], rest[end:]
            if not self.authority:
                return False
            if not url.startswith(b"/"):
                url = b"/" + url
        self.path, _, self.query = url.partition(b"?")
        return b"#" not in url

    def feed(self, data: bytes) -> None:
        """More of the request body."""
        # A body that came in one piece is kept as it is. One that came in many is gathered in one buffer:
        # a list of two-byte pieces would take twenty-five times their size.
        if not self.body_bytes:
            self.body = data
        else:
            if self._received is None:
                self._received = bytearray(self.body)
                self.body = b""
            self._received += data
        self.body_bytes += len(data)

    def ready(self) -> None:
        """The request body is whole."""
        if self._received is not None:
            self.body = bytes(self._received)
            self._received = None

    def begin(
        self,
        status: int,
        content_type: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        length: int | None = None,
    ) -> None:
        """Give the head; it goes out together with the first bytes of the body."""
        self.started = True
        parts = [
            _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status,
            b"date: ",
            self.date,
            b"\r\n",
        ]
        if content_type:
            parts += (b"content-type: ", content_type, b"\r\n")
        named = False
        for name, value in headers:
            named = named or name == REQUEST_ID
            parts += (name, b": ", value, b"\r\n")
        if not named:  # a call's answer carries the id of its record, any other one of its own
            parts += (REQUEST_ID, b": ", new_id().encode(), b"\r\n")
        if self.cors:
            parts += (b"vary: origin\r\naccess-control-allow-origin: ", self.cors, b"\r\n", _EXPOSED)
        if length is not None:
            parts.append(b"content-length: %d\r\n" % length)
            self._left = length
        elif status in (204, 304):
            self._left = 0
        elif self.http11:
            parts.append(b"transfer-encoding: chunked\r\n")
            self._chunked = True
        else:
            self.keep_alive = False
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self._head = b"".join(parts)
        if self.method == b"HEAD":
            self._left, self._chunked = 0, False

    def write(self, data: bytes) -> None:
        """Give bytes of the body."""
        if self.gone or (not data and not self._head):
            return
        if self._chunked:
            data = b"%b%x\r\n%b\r\n" % (self._head, len(data), data) if data else self._head
        else:
            if self._left is not None:
                data = data[: self._left] if self.method == b"HEAD" else data
                self._left -= len(data)
                assert self._left >= 0, "more body than was promised"
            data = self._head + data
        self._head = b""
        self._transport.write(data)

    async def write_slowly(self, data: bytes) -> None:
        """Give a large part of the body piece by piece, as fast as the client takes it."""
        for start in range(0, len(data), PIECE_BYTES):
            self.write(data[start : start + PIECE_BYTES])
            await self.drain()

    def finish(self) -> None:
        """The body is over."""
        if self.complete:
            return
        self.complete = True
        if self.gone:
            return
        if self._head:
            self._transport.write(self._head + (_ENDS_CHUNKS if self._chunked else b""))
            self._head = b""
        elif self._chunked:
            self._transport.write(_ENDS_CHUNKS)
        if self._left:  # less body than was promised: the client must not take it for whole
            self.keep_alive = False
            self._transport.abort()

    def respond(
        self, status: int, content_type: bytes, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """A whole answer at once."""
        self.begin(status, content_type, headers, length=len(body))
        self.write(body)
        self.finish()

    def abort(self) -> None:
        """Break the connection: the only honest end of an answer that cannot be completed."""
        self.complete = True
        self.keep_alive = False
        if self.gone:
            return
        if not self.http11:  # there a plain close would be the regular end of the body: reset instead
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    async def drain(self) -> None:
        """Wait while the client is slower than we are."""
        if self.flow.write_paused and not self.gone:
            await self.flow.drain()
