"""Opens connections to a target: name looked up once, failures told apart by kind."""

import asyncio
import contextlib
import errno
import socket
import ssl
import struct
import sys
from collections.abc import Callable

from slipstream.net.tls import client_context
from slipstream.testing.load.samples import ERRORS
from slipstream.testing.load.target import Target
from slipstream.testing.load.wire import Connection

_IP_LOCAL_PORT_RANGE = 51
"""Socket option of Linux 6.3 and later."""

_Address = tuple[socket.AddressFamily, str, int]

REFUSED = ERRORS.index("connect_refused")
_KINDS = {
    errno.ECONNREFUSED: REFUSED,
    errno.ETIMEDOUT: ERRORS.index("connect_timeout"),
    errno.EADDRNOTAVAIL: ERRORS.index("no_ports"),
    errno.EMFILE: ERRORS.index("no_files"),
    errno.ENFILE: ERRORS.index("no_files"),
    errno.ECONNRESET: ERRORS.index("reset"),
}


class Dialer:
    """For one target.

    Args:
        target: where.
        ca_file: authority to trust instead of the system's.
        seconds: for one connection, TLS included.
        local_ports: from which ports; None = the system's choice.
    """

    def __init__(
        self, target: Target, *, ca_file: str, seconds: float, local_ports: tuple[int, int] | None
    ) -> None:
        self._target = target
        self._ca_file = ca_file
        self._seconds = seconds
        self._ports = local_ports
        self._context: ssl.SSLContext | None = None
        self._address: _Address | None = None
        self.opened = 0

    async def open(self, create: Callable[[], Connection]) -> tuple[Connection | None, int]:
        """A connection, or None and the index of the error."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._open(create), 0
        except TimeoutError:
            return None, ERRORS.index("connect_timeout")
        except socket.gaierror:
            return None, ERRORS.index("dns_failed")
        except ssl.SSLError:
            return None, ERRORS.index("tls_failed")
        except OSError as error:
            return None, _KINDS.get(error.errno or 0, ERRORS.index("connect_failed"))

    async def _open(self, create: Callable[[], Connection]) -> Connection:
        loop = asyncio.get_running_loop()
        is_tls = self._target.origin.startswith("https")
        if is_tls and self._context is None:
            self._context = await loop.run_in_executor(None, client_context, self._ca_file)
        known = [self._address] if self._address else await self._look_up(loop, is_tls=is_tls)
        for each in known[:-1]:  # of `localhost` the first may be ::1, where nobody listens
            try:
                return await self._dial(create, each)
            except OSError:
                continue
        return await self._dial(create, known[-1])

    async def _dial(self, create: Callable[[], Connection], address: _Address) -> Connection:
        """A connection to an address, which is asked from then on."""
        loop = asyncio.get_running_loop()
        name = self._target.host if self._context is not None else None
        if self._ports is None:
            _, host, port = address
            _, connection = await loop.create_connection(
                create, host, port, ssl=self._context, server_hostname=name
            )
        else:
            ready = await self._bound(loop, address)
            _, connection = await loop.create_connection(
                create, sock=ready, ssl=self._context, server_hostname=name
            )
        self.opened += 1
        self._address = address
        return connection

    async def _look_up(self, loop: asyncio.AbstractEventLoop, *, is_tls: bool) -> list[_Address]:
        port = self._target.port or (443 if is_tls else 80)
        found = await loop.getaddrinfo(self._target.host, port, type=socket.SOCK_STREAM)
        return [(family, str(address[0]), port) for family, _, _, _, address in found]

    async def _bound(self, loop: asyncio.AbstractEventLoop, address: _Address) -> socket.socket:
        """A socket connected from one of the ports asked for."""
        assert self._ports is not None
        family, host, port = address
        low, high = self._ports
        ready = socket.socket(family, socket.SOCK_STREAM)
        with contextlib.ExitStack() as stack:
            stack.callback(ready.close)
            ready.setblocking(False)
            if sys.platform == "linux":
                ready.setsockopt(socket.IPPROTO_IP, _IP_LOCAL_PORT_RANGE, struct.pack("=I", low | high << 16))
            await loop.sock_connect(ready, (host, port))
            stack.pop_all()
        return ready
