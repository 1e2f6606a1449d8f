"""The dashboard of a program that runs without a server: its own metrics on a page, from a thread of its own.

Loopback only, for as long as the process lives. Requests and alerts of a server are not here.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.dashboard.board import Board
from slipstream.dashboard.feed import Endpoint, feed_routes
from slipstream.dashboard.pages import routes
from slipstream.monitoring.own_process import OWN_PROCESS, TICK_SECONDS
from slipstream.store.tiles import TileStore

HOST = "127.0.0.1"
START_SECONDS = 10.0


class AloneServer:
    """Serves a page of this process's metrics. Any thread may use it.

    Args:
        tiles: the metrics that were added.
    """

    def __init__(self, tiles: TileStore) -> None:
        self._tiles = tiles
        self._lock = threading.Lock()
        self._url = ""
        self._port = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def serve(self, port: int = 0) -> str:
        """Begin to serve, once; the page's URL. `port` 0 picks a free one.

        Raises `ConfigurationError` for a port that is taken, or another one than it serves on already.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                if port not in {0, self._port}:
                    raise ConfigurationError(f"The dashboard is served on port {self._port} already.")
                return self._url
            listener = _bound(port)
            self._port = listener.getsockname()[1]
            self._url = f"http://{HOST}:{self._port}/dashboard"
            started = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(listener, started), name="slipstream-dashboard", daemon=True
            )
            self._thread.start()
            if not started.wait(START_SECONDS):
                raise ConfigurationError("The dashboard did not start within 10 s.")
            return self._url

    def close(self) -> None:
        """Serve no more. Closing twice does nothing."""
        with self._lock:
            if self._thread is not None and self._server is not None:
                self._server.should_exit = True
                self._thread.join(START_SECONDS)
            self._thread = self._server = None

    def _run(self, listener: socket.socket, started: threading.Event) -> None:
        with listener:
            asyncio.run(self._serve(listener, started))

    async def _serve(self, listener: socket.socket, started: threading.Event) -> None:
        board = Board(OWN_PROCESS.read, self._tiles, requests=None, dropped=_not_counted)
        config = uvicorn.Config(
            alone_app(board),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        ticking = asyncio.create_task(_tick(board))
        started.set()
        await self._server.serve(sockets=[listener])
        board.live.close()
        ticking.cancel()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the program's."""
        yield


def alone_app(board: Board) -> Starlette:
    """The pages and the feed, for whoever reaches loopback under its own name."""
    own: list[BaseRoute] = [Route("/", _to_dashboard), *feed_routes(board, _read_only), *routes()]
    return Starlette(
        routes=own,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
        exception_handlers={SlipstreamError: _refuse},
    )


def _read_only(endpoint: Endpoint) -> Endpoint:
    """What is added is added by the program itself."""

    async def checked(request: Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return Response("Not here.\n", 405)
        return await endpoint(request)

    return checked


async def _to_dashboard(request: Request) -> Response:
    return RedirectResponse("/dashboard")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, SlipstreamError)
    body = {"error": {"message": error.message, "hint": error.hint, "code": error.code}}
    return Response(msgspec.json.encode(body), error.status, media_type="application/json")


async def _tick(board: Board) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        board.live.tell()


def _not_counted() -> None:
    """No slab of this process counts viewers."""


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"The dashboard cannot be served on port {port}: {error.strerror}.",
            hint="Give another port, or 0 for a free one.",
        ) from None
    return listener
