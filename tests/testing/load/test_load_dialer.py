"""How connections are opened: which of a name's addresses is asked."""

import asyncio
import socket
from typing import Any

from slipstream.testing.load.answers import Answer
from slipstream.testing.load.dialer import REFUSED, Dialer
from slipstream.testing.load.target import Target
from slipstream.testing.load.wire import Connection


def connection() -> Connection:
    return Connection(Answer(), lambda *_: None, lambda _: None, bytes_max=1024)


def opened(*, is_served: bool) -> tuple[list[int], int]:
    """Two connections to a name whose first address serves nobody: their errors, and how often it was looked up."""

    async def main() -> tuple[list[int], int]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        asked = 0

        async def looked_up(*_: object, **__: object) -> list[Any]:
            nonlocal asked
            asked += 1
            last = "127.0.0.1" if is_served else "127.0.0.3"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", last)]

        loop.getaddrinfo = looked_up  # type: ignore[method-assign]
        dialer = Dialer(Target(url=f"http://name:{port}"), ca_file="", seconds=5, local_ports=None)
        errors = []
        for _ in range(2):
            made, error = await dialer.open(connection)
            errors.append(error)
            if made is not None:
                made.abort()
        server.close()
        return errors, asked

    return asyncio.run(main())


def test_the_next_address_is_asked() -> None:
    """Where the first refuses, as ::1 does of many a `localhost`, the next is asked, and from then on at once."""
    assert opened(is_served=True) == ([0, 0], 1)


def test_no_address_answers() -> None:
    """The last one's error is told."""
    assert opened(is_served=False)[0] == [REFUSED, REFUSED]
