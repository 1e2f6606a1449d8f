"""The bare raw-ASGI probe: uvicorn with httptools, one ASGI function, raw pooled upstream connections, nothing else.

    python bench/gateway_asgi.py PORT UPSTREAM_PORT

It checks nothing, limits nothing and records nothing: half of its rate is the floor that DESIGN sets.
"""

import asyncio
import sys
from collections import deque

import httptools
import uvicorn

FREE: list["Upstream"] = []


class Upstream(asyncio.Protocol):
    """One connection to the upstream; what it says waits in `events`."""

    def __init__(self) -> None:
        self.gone = False
        self.parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: deque[bytes] = deque()
        self.over = False
        self.waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.wake()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        self.wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-type", b"content-length"):
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        self.over = True

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def more(self) -> None:
        if self.gone:
            raise ConnectionError("the upstream has left")
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter


async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    if scope["type"] != "http":
        return
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    upstream = FREE.pop() if FREE else None
    if upstream is None or upstream.gone:
        _, upstream = await asyncio.get_running_loop().create_connection(Upstream, "127.0.0.1", UPSTREAM)
    upstream.begin()
    head = b"%b %b HTTP/1.1\r\nhost: u\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    upstream.transport.write(head % (scope["method"].encode(), scope["raw_path"], len(body)) + body)
    while not upstream.status or not (upstream.pieces or upstream.over):
        await upstream.more()
    await send({"type": "http.response.start", "status": upstream.status, "headers": upstream.headers})
    while not (upstream.over and not upstream.pieces):
        if not upstream.pieces:
            await upstream.more()
            continue
        piece = upstream.pieces.popleft()
        more = not (upstream.over and not upstream.pieces)
        await send({"type": "http.response.body", "body": piece, "more_body": more})
        if not more:
            FREE.append(upstream)
            return
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    FREE.append(upstream)


if __name__ == "__main__":
    PORT, UPSTREAM = map(int, sys.argv[1:3])
    uvicorn.run(
        app, host="127.0.0.1", port=PORT, http="httptools", loop="uvloop", lifespan="off", ws="none",
        access_log=False, log_level="error", timeout_keep_alive=75, server_header=False, date_header=False,
    )  # fmt: skip
