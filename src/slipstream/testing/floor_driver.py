"""A closed-loop driver on raw protocols: each connection asks again as soon as it was answered.

Made to find a floor, not to predict a service: a closed loop waits for a slow server and so hides its queue.
"""

import asyncio
import contextlib
from typing import cast

import httptools
from msgspec import Struct

from slipstream.core import clock

LATENCIES_MAX = 1_000_000
"""Latencies kept of one run; what comes later is counted only."""

END_SECONDS = 5.0
"""How long after a run its first answer, and then those under way, may take."""


class Run(Struct, frozen=True):
    """What one run saw."""

    seconds: float
    answered: int
    failed: int
    """Answers other than 200, and connections that broke."""
    latencies_ns: list[int]


def request_bytes(model: str, port: int, *, path: str = "/v1/chat/completions", letters: int = 800) -> bytes:
    """A chat request of about 900 bytes, as it goes over the wire."""
    prompt = b"x" * letters
    body = b'{"model":"%b","messages":[{"role":"user","content":"%b"}],"max_tokens":16}'
    body %= model.encode(), prompt
    fields = b"host: 127.0.0.1:%d\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return b"POST %b HTTP/1.1\r\n" % path.encode() + fields % (port, len(body)) + body


async def drive(port: int, request: bytes, connections: int, seconds: float) -> Run:
    """Ask a server on loopback for `seconds` over so many connections, longer if nothing came until then.

    Raises `OSError` if nobody listens.
    """
    loop = asyncio.get_running_loop()
    crew = _Crew(request)
    callers: list[_Caller] = []
    try:
        for _ in range(connections):
            _, caller = await loop.create_connection(lambda: _Caller(crew), "127.0.0.1", port)
            callers.append(caller)
        start = clock.monotonic_ns()
        for caller in callers:
            caller.ask()
        await asyncio.sleep(seconds)
        with contextlib.suppress(TimeoutError):  # a busy machine may have let nobody run meanwhile
            await asyncio.wait_for(crew.heard.wait(), END_SECONDS)
        crew.is_over = True
        elapsed = (clock.monotonic_ns() - start) / 1e9
        answered = crew.answered
        if crew.asking:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(crew.ended.wait(), END_SECONDS)
        return Run(elapsed, answered, crew.failed + crew.asking, crew.latencies_ns)
    finally:
        crew.is_over = True
        for caller in callers:
            caller.close()


class _Crew:
    """What the callers of one run share."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.is_over = False
        self.answered = 0
        self.failed = 0
        self.asking = 0
        self.latencies_ns: list[int] = []
        self.heard = asyncio.Event()
        self.ended = asyncio.Event()


class _Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, crew: _Crew) -> None:
        self._crew = crew
        self._parser = httptools.HttpResponseParser(self)
        self._asked_ns = 0  # 0 = no answer is due

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self) -> None:
        self._crew.asking += 1
        self._asked_ns = clock.monotonic_ns()
        self._transport.write(self._crew.request)

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_complete(self) -> None:
        crew, now = self._crew, clock.monotonic_ns()
        if self._parser.get_status_code() == 200:
            crew.answered += 1
            if len(crew.latencies_ns) < LATENCIES_MAX:
                crew.latencies_ns.append(now - self._asked_ns)
        else:
            crew.failed += 1
        self._done()
        if not crew.is_over and not self._transport.is_closing():
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._asked_ns:
            self._crew.failed += 1
            self._done()

    def _done(self) -> None:
        self._asked_ns = 0
        self._crew.asking -= 1
        self._crew.heard.set()
        if self._crew.is_over and not self._crew.asking:
            self._crew.ended.set()
