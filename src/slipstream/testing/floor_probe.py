"""The bare proxy: what passing a request on costs at the very least in this language on this host.

    python -m slipstream.testing.floor_probe UPSTREAM_PORT [PORT]

An `asyncio.Protocol` on both sides, requests and answers passed on as the bytes they came in, connections to
the upstream kept. It has no checks, limits, keys, records, timeouts or back-pressure: it is a measure,
not a server. It times how long the upstream takes, as seen from where a proxy stands; `GET /wait` tells and
starts over.
"""

import asyncio
import functools
import statistics
import sys
from collections import deque
from typing import cast

import httptools
import msgspec

from slipstream.core import clock
from slipstream.testing.floor_mock import json_answer
from slipstream.testing.floor_process import serve_as_child

WAITS_MAX = 65_536
"""Waits kept; beyond it the oldest makes room, which `asked` shows."""


class Waits(msgspec.Struct):
    """How long the upstream took, from the last byte of a request to the first of its answer."""

    asked: int
    p50_us: float | None
    """None where nothing was asked."""


class Upstreams:
    """The connections to the upstream that are free, and how long it took them to answer."""

    def __init__(self, port: int) -> None:
        self.free: list[Upstream] = []
        self.waits: deque[int] = deque(maxlen=WAITS_MAX)
        self.asked = 0
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()

    def send(self, request: bytes, client: "Client") -> None:
        """Pass a request on, over a new connection where none is free."""
        self.asked += 1
        while self.free:
            upstream = self.free.pop()
            if not upstream.is_gone:
                upstream.send(request, client)
                return
        task = self._loop.create_task(self._connect(request, client))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def tell(self) -> bytes:
        """The waits since the last time, as an answer."""
        middle = statistics.median(self.waits) / 1e3 if self.waits else None
        told = Waits(self.asked, middle)
        self.waits.clear()
        self.asked = 0
        return json_answer(msgspec.json.encode(told))

    async def _connect(self, request: bytes, client: "Client") -> None:
        try:
            _, upstream = await self._loop.create_connection(lambda: Upstream(self), "127.0.0.1", self._port)
        except OSError:
            client.transport.abort()
            return
        upstream.send(request, client)


class Upstream(asyncio.Protocol):
    """One connection to the upstream."""

    def __init__(self, crew: Upstreams) -> None:
        self.is_gone = False
        self._crew = crew
        self._parser = httptools.HttpResponseParser(self)
        self._client: Client | None = None
        self._sent_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The upstream has left, and takes the client whose answer it owes with it."""
        self.is_gone = True
        if self._client is not None:
            self._client.transport.abort()
            self._client = None

    def send(self, request: bytes, client: "Client") -> None:
        """Pass a request on; its answer is the client's."""
        self._client = client
        client.upstream = self
        self._transport.write(request)
        self._sent_ns = clock.monotonic_ns()

    def drop(self) -> None:
        """The client has left before its answer was whole."""
        self._client = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Pass on what came; the parser only says where an answer ends."""
        if self._sent_ns:
            self._crew.waits.append(clock.monotonic_ns() - self._sent_ns)
            self._sent_ns = 0
        client = self._client
        if client is None:
            self._transport.abort()
            return
        client.transport.write(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        client, self._client = self._client, None
        if client is None:
            return
        client.upstream = None
        if client.is_last:  # it said so, and what it said was passed on: both sides close
            client.transport.close()
        else:
            self._crew.free.append(self)


class Client(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, crew: Upstreams) -> None:
        self.upstream: Upstream | None = None
        self.is_last = False
        self.transport: asyncio.Transport
        self._crew = crew
        self._parser = httptools.HttpRequestParser(self)
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has left, and so does its answer."""
        if self.upstream is not None:
            self.upstream.drop()
            self.upstream = None

    def data_received(self, data: bytes) -> None:
        """The parser only says where a request ends."""
        self._request = self._request + data if self._request else data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_message_complete(self) -> None:
        """The request is whole."""
        request, self._request = self._request, b""
        self.is_last = not self._parser.should_keep_alive()
        if self._parser.get_method() == b"GET":
            self.transport.write(self._crew.tell())
        else:
            self._crew.send(request, self)


class _Lazily:
    """Builds the crew on the loop that serves: a factory of protocols is called there first."""

    def __init__(self, port: int) -> None:
        self._port = port

    @functools.cached_property
    def crew(self) -> Upstreams:
        return Upstreams(self._port)

    def __call__(self) -> Client:
        return Client(self.crew)


if __name__ == "__main__":
    upstream_port, *own_port = map(int, sys.argv[1:3])
    sys.exit(serve_as_child(_Lazily(upstream_port), *own_port))
