"""An upstream that plays exact bytes: what no product of anybody would send, or not on demand."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence

Step = bytes | float | str | Iterator[bytes]
"""Bytes to send; seconds to wait; `hang`, `fin` or `reset`; or bytes made as they are read."""

_RESET = struct.pack("ii", 1, 0)
_MODEL = re.compile(rb'"model" ?: ?"([^"]*)"')
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(*events: bytes) -> bytes:
    """A whole answer with these bytes as its body."""
    return HEAD + b"".join(chunk(event) for event in events) + b"0\r\n\r\n"


def body(data: bytes, content_type: str = "application/json", status: str = "200 OK") -> bytes:
    """A whole unstreamed answer."""
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        status.encode(), content_type.encode(), len(data), data,
    )  # fmt: skip


class ByteServer:
    """Answers a request with the steps that were put down for its model or its path, else with its path."""

    def __init__(self) -> None:
        self.plays: dict[str, Sequence[Step]] = {}
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.left_at = 0.0
        """When a client was last seen to leave, on the clock of `time.monotonic`."""
        self.heads: dict[str, bytes] = {}
        self.bodies: dict[str, bytes] = {}
        self.open = 0
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                content = await reader.readexactly(int(length[1])) if length else b""
                name = self._name(head, content)
                self.requests[name] += 1
                self.heads[name] = head
                self.bodies[name] = content
                leaving = asyncio.ensure_future(reader.read(1))
                playing = asyncio.ensure_future(self._play(name, writer))
                await asyncio.wait((leaving, playing), return_when=asyncio.FIRST_COMPLETED)
                has_left = leaving.done()
                for task in (leaving, playing):
                    task.cancel()
                await asyncio.gather(leaving, playing, return_exceptions=True)
                if has_left:
                    self.left_at = time.monotonic()
                    self.left[name] += 1
                if has_left or writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    def _name(self, head: bytes, content: bytes) -> str:
        model = _MODEL.search(content)
        if model and model[1].decode() in self.plays:
            return model[1].decode()
        return head.split(b" ")[1].decode("latin-1")

    async def _play(self, name: str, writer: asyncio.StreamWriter) -> None:
        for step in self.plays.get(name) or (body(b'{"path":"%b"}' % name.encode("latin-1")),):
            if step == "hang":
                await asyncio.sleep(3600)
            elif step == "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            elif step == "fin":
                writer.close()
            elif isinstance(step, bytes):
                writer.write(step)
                self.sent[name] += len(step)
                await writer.drain()
            elif isinstance(step, int | float):
                await asyncio.sleep(step)
            else:
                assert not isinstance(step, str)
                for piece in step:
                    writer.write(piece)
                    await writer.drain()
                    self.sent[name] += len(piece)


@contextlib.asynccontextmanager
async def byte_server(context: ssl.SSLContext | None = None) -> AsyncIterator[ByteServer]:
    """A running one on the running loop, with TLS where a context is given."""
    served = ByteServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await served._serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks))
