"""A scripted upstream on a real socket, and ways to cancel a coroutine at a chosen step."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any

Script = Callable[["Visit"], Awaitable[None]]


def answer(body: bytes = b"hello", status: str = "200 OK", *headers: str) -> bytes:
    """A complete answer with a length."""
    lines = "".join(f"{line}\r\n" for line in (*headers, f"Content-Length: {len(body)}"))
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def chunked(*parts: bytes, trailers: bytes = b"") -> bytes:
    """A complete answer in chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailers + b"\r\n"


class Visit:
    """One request as the upstream sees it."""

    def __init__(self, up: "Upstream", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.up = up
        self.reader = reader
        self.writer = writer
        self.head = b""
        self.body = b""
        self.nth_on_connection = 0

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        self.writer.transport.abort()

    async def until_left(self) -> None:
        """Returns when the client has closed its side."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


class Upstream:
    """What a test may look at."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.accepted = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.visits: list[Visit] = []
        self.url = ""
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open.add(writer)
        nth = 0
        try:
            while not writer.is_closing():
                visit = Visit(self, reader, writer)
                visit.head = await reader.readuntil(b"\r\n\r\n")
                for line in visit.head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        visit.body = await reader.readexactly(int(line.split(b":")[1]))
                nth += 1
                visit.nth_on_connection = nth
                self.visits.append(visit)
                await self.script(visit)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def deserted(self) -> None:
        """Returns once no client is connected any more; fails after 10 s."""
        async with asyncio.timeout(10):
            while self.open:
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, unix_path: str = ""
) -> AsyncIterator[Upstream]:
    """An upstream that runs `script` for every request."""
    up = Upstream(script)
    if unix_path:
        server = await asyncio.start_unix_server(up.handle, unix_path)
    else:
        server = await asyncio.start_server(up.handle, "127.0.0.1", 0, ssl=tls)
        up.port = server.sockets[0].getsockname()[1]
    up.url = f"{'https' if tls else 'http'}://127.0.0.1:{up.port}"
    try:
        yield up
        await up.deserted()
    finally:
        server.close()
        for writer in list(up.open):
            writer.transport.abort()
        await asyncio.sleep(0.01)


def replying(data: bytes) -> Script:
    """Every request gets these bytes."""

    async def script(visit: Visit) -> None:
        await visit.send(data)

    return script


class CancelledAt:
    """Await a coroutine and cancel the task around it at its n-th suspension.

    `asleep`: while it waits. `awake`: in the moment what it waits for has happened, before it knows.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], step: int, moment: str) -> None:
        self.work = work
        self.step = step
        self.moment = moment
        self.has_cancelled = False

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        inner = self.work.__await__()
        nth = 0
        thrown: BaseException | None = None
        while True:
            try:
                waits_for = inner.throw(thrown) if thrown is not None else inner.send(None)
            except StopIteration as stop:
                return stop.value
            thrown = None
            if nth == self.step and not self.has_cancelled:
                self.has_cancelled = True
                if self.moment == "awake" and waits_for is not None:
                    waits_for.add_done_callback(lambda _: task.cancel())
                else:
                    asyncio.get_running_loop().call_soon(task.cancel)
            nth += 1
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 (thrown into the coroutine as it is)
                thrown = error


@contextlib.asynccontextmanager
async def accepting(
    accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that knows no HTTP and reads no more than it is told to; gives `host:port`."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError):
                await accept(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1024)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        if tasks:
            await asyncio.wait(tasks, timeout=10)
