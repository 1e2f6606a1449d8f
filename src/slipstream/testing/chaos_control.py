"""The fault proxy's control port: list, add and remove faults and read counts as JSON over HTTP, on loopback.

    GET    /              what is running, counts, faults
    POST   /faults        {"fault": "latency:down,ms=200"}: set one more
    PUT    /faults        {"faults": [...]}: set these and no others
    DELETE /faults        take all away
    DELETE /faults/NAME   take one away

One request a connection. Pages in a browser cannot reach it: JSON only, loopback `Host`, no `Origin`.
"""

import asyncio
import re
from types import TracebackType
from typing import Self, TypeVar, cast

import msgspec

from slipstream.core import clock
from slipstream.core.errors import BadRequest, NotAllowed, SlipstreamError
from slipstream.testing.chaos import Chaos
from slipstream.testing.chaos_bodies import head
from slipstream.testing.chaos_grammar import form
from slipstream.testing.chaos_http import Body, End, Framer, Head, Opaque
from slipstream.testing.chaos_listener import HOST, Listener

_MOST_BYTES = 128 * 1024
_MOST_CONNECTIONS = 32
_SECONDS = 5.0
_LOOPBACK = re.compile(rb"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)

T = TypeVar("T")


class _OneFault(msgspec.Struct, forbid_unknown_fields=True):
    fault: str


class _Faults(msgspec.Struct, forbid_unknown_fields=True):
    faults: list[str]


def answer(chaos: Chaos, request: Head, body: bytes) -> tuple[int, object]:
    """What a control request does and is answered with: a status and something to write as JSON.

    Raises:
        SlipstreamError: the request is refused or cannot be carried out; nothing has changed.
    """
    _check_caller(request)
    method, target, _ = request.start.decode("latin-1").split(" ")
    if method in {"POST", "PUT"} and not request.get(b"content-type").lower().startswith(b"application/json"):
        raise BadRequest("The content type must be application/json.", status=415)
    match method, target.strip("/").split("/"):
        case "GET", [""]:
            return 200, state(chaos)
        case "GET", ["faults"]:
            return 200, {"faults": state(chaos)["faults"]}
        case "POST", ["faults"]:
            return 201, {"name": chaos.add(_read(body, _OneFault).fault).name}
        case "PUT", ["faults"]:
            chaos.set(_read(body, _Faults).faults)
            return 200, state(chaos)
        case "DELETE", ["faults"]:
            chaos.set([])
            return 200, state(chaos)
        case "DELETE", ["faults", name] if chaos.remove(name):
            return 200, state(chaos)
        case "DELETE", ["faults", name]:
            raise BadRequest(f"There is no fault named {name[:64]!r}.", status=404)
    raise BadRequest("There is no such path or method.", status=404, hint="See GET /.")


def state(chaos: Chaos) -> dict[str, object]:
    """What is running, as people and scripts read it."""
    active = {fault.name for fault in chaos.faults.active(clock.monotonic_ns())}
    hits = chaos.counts.hits
    return {
        "url": chaos.url,
        "upstream": chaos.upstream,
        "seed": chaos.seed,
        "counts": msgspec.to_builtins(chaos.counts),
        "faults": [
            {
                "name": fault.name,
                "fault": form(fault),
                "active": fault.name in active,
                "hits": hits.get(fault.name, 0),
            }
            for fault in chaos.faults.all()
        ],
    }


def _check_caller(request: Head) -> None:
    if not _LOOPBACK.fullmatch(request.get(b"host")):
        raise NotAllowed("The Host header must name loopback.", status=421)
    if request.get(b"origin") or request.get(b"sec-fetch-site") not in {b"", b"none"}:
        raise NotAllowed("Web pages may not control the fault proxy.", status=403)


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"Not what is asked for: {error}.") from None


class Control:
    """The control port of a proxy, in its event loop; use it as an async context manager.

    Args:
        chaos: what it controls.
        port: to listen on, on 127.0.0.1; 0 = a free one.

    Raises:
        ConfigurationError: the port is taken.
    """

    def __init__(self, chaos: Chaos, *, port: int = 0) -> None:
        self._chaos = chaos
        self._listener = Listener(port, self._accept)
        self.callers: set[asyncio.Transport] = set()
        """Open connections."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._listener.port}"

    async def __aenter__(self) -> Self:
        self._listener.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        await self._listener.settled()
        for transport in list(self.callers):
            transport.abort()
        await asyncio.sleep(0)  # the loop closes an aborted socket in its next turn

    def _accept(self) -> "_Caller":
        return _Caller(self._chaos, self.callers)


class _Caller(asyncio.Protocol):
    """One control connection: one request, one answer, closed."""

    def __init__(self, chaos: Chaos, callers: set[asyncio.Transport]) -> None:
        self._chaos = chaos
        self._callers = callers
        self._framer = Framer(responses=False)
        self._request: Head | None = None
        self._body = bytearray()
        self._read = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport = stream
        self._deadline = asyncio.get_running_loop().call_later(_SECONDS, stream.abort)
        self._callers.add(stream)
        if len(self._callers) > _MOST_CONNECTIONS:
            stream.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._callers.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._read += len(data)
        if self._read > _MOST_BYTES:
            self._refuse(BadRequest("The request is too large.", status=413))
            return
        for part in self._framer.feed(bytes(data)):
            match part:
                case Head():
                    self._request = part
                case Body():
                    self._body += part.data
                case End():
                    self._carry_out()
                    return
                case Opaque():
                    self._refuse(BadRequest("Not an HTTP/1.1 request."))
                    return

    def _carry_out(self) -> None:
        assert self._request is not None
        try:
            status, content = answer(self._chaos, self._request, bytes(self._body))
        except SlipstreamError as error:
            self._refuse(error)
            return
        self._write(status, content)

    def _refuse(self, error: SlipstreamError) -> None:
        # A fault that cannot be read is the caller's mistake here, not one in our settings.
        status = error.status if error.status < 500 else 400
        self._write(status, {"error": {"message": error.message, "hint": error.hint}})

    def _write(self, status: int, content: object) -> None:
        body = msgspec.json.encode(content) + b"\n"
        framing = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
        self._transport.write(head(status, [(b"content-type", b"application/json"), *framing]) + body)
        self._transport.close()
