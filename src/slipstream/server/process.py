"""One worker process and the line to it: start it, talk to it, see it end.

It does not know why a worker is started, nor when it is started again.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

import msgspec

from slipstream.core.health import EndpointSnapshot
from slipstream.core.use import UseRow
from slipstream.server.channel import Channel
from slipstream.server.messages import FromWorker

_END_SECONDS = 1.0  # between a worker's end and the end of its line, and the other way round
_log = logging.getLogger(__name__)


class WorkerProcess:
    """One worker process and the line to it."""

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        self.pid = process.pid
        self.in_flight = 0
        self.counters: dict[str, int] = {}
        self.endpoints: tuple[EndpointSnapshot, ...] = ()
        self.use: tuple[UseRow, ...] = ()
        self._process = process
        self._line = line
        self._channel: Channel[FromWorker] | None = None
        self._line_gone = asyncio.Event()

    async def listen(self, on_message: Callable[[FromWorker], None]) -> None:
        """Begin to hear what it says."""
        loop = asyncio.get_running_loop()
        _, self._channel = await loop.create_unix_connection(
            lambda: Channel[FromWorker](FromWorker, on_message, self._line_gone.set), sock=self._line
        )

    def send(self, message: msgspec.Struct) -> bool:
        """Tell it something; whether it gets it. One that has left 16 MiB unread is stuck, and is killed."""
        if self._channel is None:
            return False
        is_sent = self._channel.send(message)
        if not is_sent and not self._line_gone.is_set():
            _log.error("worker %d does not read what it is told; it is killed", self.pid)
            self.kill()
        return is_sent

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Wait for its end and for its last words; return the exit status, negative for a signal."""
        exited = asyncio.ensure_future(self._process.wait())
        gone = asyncio.ensure_future(self._line_gone.wait())
        try:
            await asyncio.wait((exited, gone), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((exited, gone), timeout=_END_SECONDS)
            if not exited.done():
                _log.error("worker %d hung up but does not end; it is killed", self.pid)
                self.kill()
            return await exited
        finally:
            gone.cancel()
            if self._channel is not None:
                self._channel.close()
            if not exited.done():  # we are cancelled: nobody else will see it off
                self.kill()
                await exited


async def start_worker(command: tuple[str, ...], listener: socket.socket) -> WorkerProcess:
    """Start `command` with two more arguments: the descriptors of the listening socket and of its line.

    It runs in a process group of its own, so that a terminal's Ctrl-C reaches the supervisor only.
    Raises `OSError` where no process or descriptor is to be had.
    """
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as on_failure:
        on_failure.enter_context(ours)
        ours.setblocking(False)
        fds = (listener.fileno(), theirs.fileno())
        process = await asyncio.create_subprocess_exec(
            *command, *map(str, fds), stdin=asyncio.subprocess.DEVNULL, pass_fds=fds, process_group=0
        )
        on_failure.pop_all()
    return WorkerProcess(process, ours)
