"""A listening socket on loopback that can be closed at any moment without losing track of a connection.

asyncio's own server drops a connection accepted in the turn in which it is closed (CPython 3.11: its
transport is never made and the socket stays open), and a proxy under test is closed at just such moments.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from slipstream.core.errors import ConfigurationError

HOST = "127.0.0.1"
_PAUSE_SECONDS = 0.1  # before the next accept where the process has no descriptor left


class Listener:
    """Accepts connections on one port, which it keeps over closing and opening again.

    Args:
        port: on 127.0.0.1; 0 = a free one.
        protocol: makes the protocol of each connection.
        backlog: connections that wait in the kernel.
    """

    def __init__(self, port: int, protocol: Callable[[], asyncio.Protocol], *, backlog: int = 128) -> None:
        self.port = port
        self._protocol = protocol
        self._backlog = backlog
        self._socket: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._wrapping: dict[asyncio.Task[object], socket.socket] = {}

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return self._socket is not None

    def open(self) -> None:
        """Listen, from this moment on.

        Raises:
            ConfigurationError: the port is taken.
        """
        try:
            self._socket = socket.create_server((HOST, self.port), backlog=self._backlog)
        except OSError as error:
            raise ConfigurationError(f"Cannot listen on port {self.port}: {error.strerror}.") from None
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        self._watch(self._socket)

    def close(self) -> None:
        """Refuse connections, from this moment on; what was just accepted is closed."""
        if self._pause is not None:
            self._pause.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for task in list(self._wrapping):
            task.cancel()

    async def settled(self) -> None:
        """Wait until every connection that was accepted has its protocol or is closed."""
        if self._wrapping:
            await asyncio.wait(list(self._wrapping))

    def _watch(self, listening: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            accepted, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            loop.remove_reader(listening)
            self._pause = loop.call_later(_PAUSE_SECONDS, self._watch, listening)
            return
        accepted.setblocking(False)
        task = loop.create_task(self._wrap(accepted))
        self._wrapping[task] = accepted
        task.add_done_callback(self._wrapped)

    async def _wrap(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is gone already; its socket is closed with the transport
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, accepted)

    def _wrapped(self, task: "asyncio.Task[object]") -> None:
        accepted = self._wrapping.pop(task)
        if task.cancelled():
            accepted.close()
