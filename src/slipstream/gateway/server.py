"""The public server of one worker: connections, dispatch, health, and draining."""

import asyncio
import contextlib
import email.utils
import logging
import re
import socket
from collections.abc import Callable, Iterator

import msgspec
from uvicorn.config import Config
from uvicorn.server import ServerState

from slipstream.config.settings import Settings
from slipstream.core import clock
from slipstream.core.errors import BadRequest, SlipstreamError, Unavailable
from slipstream.core.keys import Keyring
from slipstream.core.meters import Counters
from slipstream.gateway.control import ControlForward
from slipstream.gateway.errors import error_body, error_headers
from slipstream.gateway.exchange import Exchange
from slipstream.gateway.guard import Guard
from slipstream.gateway.openai_api import JSON, Handler, ModelList, ModelRow, OpenAIApi
from slipstream.gateway.protocol import GatewayProtocol, connection_factory
from slipstream.wiring import Parts

log = logging.getLogger(__name__)

SWEEP_SECONDS = 0.5
"""How often connections are asked whether they are late; also the error of every timeout of theirs."""

UNSENT_BYTES = 64 * 1024
"""What the kernel may hold unsent for a slow client; by itself it takes 2.5 MB before we notice anything."""

_HEADER_NAMES = re.compile(rb"[a-z0-9-]{1,64}(?:, ?[a-z0-9-]{1,64}){0,63}", re.IGNORECASE)

LAST_WORDS_SECONDS = 0.5
"""Time for the error event of an answer that did not finish within the drain."""


class GatewayServer:
    """Serves the public port until it is drained. One per worker, on the worker's loop."""

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        *,
        keyring: Callable[[], Keyring],
        control_socket: str,
        counters: Counters,
    ) -> None:
        self.settings = settings.server
        self.guard = Guard(
            settings.server.host, settings.server.allowed_hosts, settings.server.allowed_origins
        )
        self.counters = counters
        self.date = b""
        self.draining = False
        self._parts = parts
        self._api = OpenAIApi(parts.way, parts.catalog, counters, models=self._models)
        self._control = ControlForward(control_socket, keyring, lambda: self.draining)
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._api.in_flight

    def others(self, request_id: str) -> int:
        """Calls beside this one that are being answered."""
        return self._api.others(request_id)

    @property
    def oldest_ns(self) -> int:
        """How long the oldest of them has been under way; 0 where there is none."""
        return self._api.oldest_ns

    async def start(self, listener: socket.socket) -> None:
        """Begin to accept connections on a bound and listening socket."""
        loop = asyncio.get_running_loop()
        config = Config(
            _no_asgi, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
        )
        config.load()
        self._tick()
        listener.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES
        )  # connections inherit it
        self._server = await loop.create_server(
            connection_factory(self, config, self._state), sock=listener, backlog=2048
        )
        self._sweeper = loop.create_task(self._sweep())

    def begin_drain(self) -> None:
        """Take no more connections; those that are idle are closed, the others after their answer."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in self._connections():
            connection.end_when_idle()

    async def drain(self, seconds: float) -> None:
        """Wait until every answer is out, at most `seconds`; what is left then ends with an error event."""
        self.begin_drain()
        deadline = asyncio.get_running_loop().time() + seconds
        await self._emptied(deadline)
        for connection in self._connections():
            connection.stop()
        await self._emptied(asyncio.get_running_loop().time() + LAST_WORDS_SECONDS)
        for connection in self._connections():
            connection.transport.abort()

    async def aclose(self) -> None:
        """Drop everything that is left."""
        self.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        if self._server is not None:
            self._server.close()
        answering = [each.serving for each in self._connections() if each.serving is not None]
        for connection in self._connections():
            connection.transport.abort()
        if answering:  # each is cancelled as its connection ends
            await asyncio.wait(answering, timeout=LAST_WORDS_SECONDS)
        await self._control.aclose()

    async def handler(self, exchange: Exchange) -> None:
        """Serve one request; the last guard of a request's task."""
        origin = exchange.headers.get(b"origin")
        if origin is not None and self.guard.allows_origin(origin):
            exchange.cors = origin
        try:
            handle = self._own(exchange) or self._api.find(exchange) or self._control.serve
            await handle(exchange)
        except SlipstreamError as error:
            self.refuse(exchange, error)
        except asyncio.CancelledError:
            if not (exchange.gone or exchange.complete):  # not the client left: we are shutting down
                self.refuse(exchange, shutting_down())
            raise
        except Exception:
            log.exception("unexpected error while answering a request")
            self.counters.count("unexpected_errors")
            self.refuse(
                exchange, SlipstreamError("Something unexpected went wrong.", hint="See the server's log.")
            )

    def refuse(self, exchange: Exchange, error: SlipstreamError) -> None:
        """Answer with an error; break the connection where an answer has begun."""
        if exchange.started:
            exchange.abort()
        else:
            exchange.respond(error.status, JSON, error_body(error), error_headers(error))

    def _own(self, exchange: Exchange) -> Handler | None:
        if exchange.method == b"OPTIONS":
            self._preflight(exchange)
        elif exchange.path == b"/healthz":
            exchange.respond(200, JSON, b'{"status":"ok"}')
        elif exchange.path == b"/readyz":
            loading, failed = self._parts.loading(), self._parts.failed()
            ready = not loading and not failed and not self.draining
            body = {"ready": ready, "draining": self.draining, "loading": loading, "failed": failed}
            exchange.respond(200 if ready else 503, JSON, msgspec.json.encode(body))
        else:
            return None
        return _answered

    def _preflight(self, exchange: Exchange) -> None:
        origin = exchange.headers.get(b"origin", b"")
        if not self.guard.allows_origin(origin):
            raise BadRequest(
                "OPTIONS is served to pages of the setting server.allowed_origins only.",
                hint="Add the page's origin there.",
                code="wrong_method",
                status=405,
            )
        asked = exchange.headers.get(b"access-control-request-headers", b"")
        headers = asked if _HEADER_NAMES.fullmatch(asked) else b"authorization, content-type"
        allowed = [
            (b"access-control-allow-methods", b"GET, POST, DELETE"),
            (b"access-control-allow-headers", headers),  # clients send many of their own: x-stainless-os …
            (b"access-control-max-age", b"600"),
        ]
        exchange.respond(204, b"", b"", allowed)

    def _models(self) -> ModelList:
        rows = [ModelRow(row.name, row.owner, row.details()) for row in self._parts.models()]
        return ModelList(rows)

    def _connections(self) -> Iterator[GatewayProtocol]:
        for connection in list(self._state.connections):
            assert isinstance(connection, GatewayProtocol)
            yield connection

    def _tick(self) -> None:
        self.date = email.utils.formatdate(clock.wall_ns() / 1e9, usegmt=True).encode()

    async def _emptied(self, deadline: float) -> None:
        """Wait until no connection is left, or until `deadline` in the loop's time."""
        # A poll, not an event: connections leave by many ways, and this happens once, at the very end.
        while self._state.connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._tick()
            now = loop.time()
            for connection in self._connections():
                late = connection.overdue(now)
                if late:
                    connection.expire(late)


def shutting_down() -> Unavailable:
    """What those are told whose answer does not finish within the drain."""
    return Unavailable("The server is shutting down.", hint="Try again.", retry_after_seconds=1.0)


async def _answered(exchange: Exchange) -> None:
    """For requests that are answered while they are dispatched."""


async def _no_asgi(scope: object, receive: object, send: object) -> None:
    """Never called: our protocol serves requests itself."""
