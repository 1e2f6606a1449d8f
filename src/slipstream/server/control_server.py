"""Serves the supervisor's Unix socket. Routes and their framework are loaded when somebody first connects."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

_CLOSE_SECONDS = 1


class ControlServer:
    """A small HTTP server on a listening socket; it waits without the 8 MB that it takes to serve.

    Args:
        listener: a listening socket; closed by `aclose`.
        load: imports what is served, and returns what builds it. Called once, in a thread, because that takes
            up to half a second in which the loop has to go on; the building is done on the loop.
    """

    def __init__(self, listener: socket.socket, load: "Callable[[], Callable[[], Starlette]]") -> None:
        self._listener = listener
        self._load = load
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener, self._begin)

    def _begin(self) -> None:
        self._loop.remove_reader(self._listener)
        self._task = self._loop.create_task(self._serve(), name="control server")

    async def _serve(self) -> None:
        await asyncio.to_thread(_load_uvicorn)
        make_app = await asyncio.to_thread(self._load)
        self._server = _server(make_app())
        await self._server.serve(sockets=[self._listener])

    async def aclose(self) -> None:
        """Answer what runs for at most a second, then close."""
        if self._task is None:
            self._loop.remove_reader(self._listener)
        elif self._server is None:
            self._task.cancel()
            await asyncio.wait([self._task])
        else:
            self._server.should_exit = True
            await self._task
        self._listener.close()


def _load_uvicorn() -> None:
    """With what it imports only when it begins to serve, and pages when they are first read."""
    import importlib.resources.readers  # noqa: F401

    import uvicorn.lifespan.off
    import uvicorn.protocols.http.httptools_impl  # noqa: F401


def _server(app: "Starlette") -> "uvicorn.Server":
    import uvicorn

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its start and end are no news to anybody

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Signals are the supervisor's."""
            yield

    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
    )
    return Server(config)
