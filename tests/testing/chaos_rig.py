"""A raw server and a raw client for the fault proxy's tests: they write bytes and note what comes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from slipstream.testing.chaos import Chaos

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}"
DONE = b"data: [DONE]\n\n"


def event(number: int) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": f"w{number} ü"}}]}).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def stream(events: int, *, done: bool = True) -> bytes:
    """A whole streamed answer: `events` events, each in a chunk of its own."""
    sent = [event(number) for number in range(events)] + ([DONE] if done else [])
    return SSE_HEAD + b"".join(map(chunk, sent)) + b"0\r\n\r\n"


def unchunk(body: bytes) -> bytes:
    """The body without its chunk framing, as far as it goes."""
    out = b""
    while body:
        line, _, body = body.partition(b"\r\n")
        size = int(line, 16)
        out, body = out + body[:size], body[size + 2 :]
    return out


@dataclass
class Server(asyncio.Protocol):
    """Answers every request head with the same bytes; shared by all connections."""

    answer: bytes
    close_after: bool = False
    received: bytearray = field(default_factory=bytearray)
    open: set[asyncio.Transport] = field(default_factory=set)
    ended: list[Exception | None] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _ServerConnection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.tail = b""

    def connection_made(self, transport):
        self.transport = transport
        self.server.open.add(transport)

    def data_received(self, data):
        self.server.received += data
        self.tail += data
        while b"\r\n\r\n{}" in self.tail:
            self.tail = self.tail.partition(b"\r\n\r\n{}")[2]
            self.transport.write(self.server.answer)
            if self.server.close_after:
                self.transport.close()

    def connection_lost(self, exc):
        self.server.open.discard(self.transport)
        self.server.ended.append(exc)


@asynccontextmanager
async def serving(answer: bytes, *, close_after: bool = False) -> AsyncIterator[Server]:
    server = Server(answer, close_after)
    listener = await asyncio.get_running_loop().create_server(
        lambda: _ServerConnection(server), "127.0.0.1", 0
    )
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for transport in list(server.open):
            transport.abort()
        await until(lambda: not server.open)


class Client(asyncio.Protocol):
    """Notes every read and how the connection ended: None = open, "eof", "rst"."""

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self.end: str | None = None

    @property
    def data(self) -> bytes:
        return b"".join(self.reads)

    @property
    def body(self) -> bytes:
        """The events or bytes after the head, without chunk framing."""
        head, _, body = self.data.partition(b"\r\n\r\n")
        return unchunk(body) if b"chunked" in head else body

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.reads.append(data)

    def eof_received(self):
        self.end = "eof"

    def connection_lost(self, exc):
        if isinstance(exc, ConnectionResetError | BrokenPipeError):
            self.end = "rst"
        self.end = self.end or "closed"

    async def ended(self) -> str:
        await until(lambda: self.end is not None)
        assert self.end is not None
        return self.end

    async def got(self, data: bytes) -> None:
        """Wait until exactly these bytes are there."""
        await until(lambda: len(self.data) >= len(data))
        assert self.data == data


async def dial(chaos: Chaos, request: bytes = REQUEST) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", chaos.port)
    client.transport.write(request)
    return client


async def until(holds: Callable[[], object], *, seconds: float = 20.0) -> None:
    """A hang guard, not a measurement."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.001)


async def settle() -> None:
    """Give everything that is ready the turns of the loop to show itself."""
    for _ in range(30):
        await asyncio.sleep(0.001)


def relayed(
    answer: bytes, *faults: str, close_after: bool = False, seed: int = 1
) -> Callable[[Callable[[Server, Chaos], Awaitable[None]]], None]:
    """Run a test body with a server and a fault proxy in front of it; both must be left clean."""

    def run(body: Callable[[Server, Chaos], Awaitable[None]]) -> None:
        async def main() -> None:
            async with serving(answer, close_after=close_after) as server:
                async with Chaos(server.url, faults=faults, seed=seed) as chaos:
                    await body(server, chaos)
                assert chaos.counts.open == 0
                await until(lambda: not server.open)

        asyncio.run(main())

    return run
