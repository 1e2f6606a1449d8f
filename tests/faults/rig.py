"""A real `slipstream serve` before upstreams that fail to order, which run in a thread of the test."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil

from e2e.serving import Serving, serving
from slipstream.config.settings import Settings
from slipstream.core.keys import keyring
from slipstream.core.meters import Counters
from slipstream.core.pool import PoolSnapshot
from slipstream.core.record import Record
from slipstream.gateway.server import GatewayServer
from slipstream.models.local_process import OFF
from slipstream.models.openai import OpenAIUpstream
from slipstream.wiring import Parts, build_parts

T = TypeVar("T")

SETTINGS = {
    "SLIPSTREAM__MODELS__FIRST_TOKEN_SECONDS": "1",
    "SLIPSTREAM__MODELS__IDLE_SECONDS": "1",
    "SLIPSTREAM__MODELS__CONNECT_SECONDS": "2",
    "SLIPSTREAM__MODELS__TOTAL_SECONDS": "20",
    "SLIPSTREAM__MODELS__WAIT_SECONDS": "0",
    "SLIPSTREAM__MODELS__RETRY_MINIMUM": "100000",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
    "SLIPSTREAM__MONITORING__SCRAPE_UPSTREAMS": "off",  # a fault set for one request must meet that one
}
"""Deadlines that a test can wait for, and a budget for retries that no test spends."""


class Backstage:
    """An event loop in a thread, and the servers that were opened on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = contextlib.AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name="backstage", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on that loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def open(self, server: AbstractAsyncContextManager[T]) -> T:
        """Open a server there; it is closed at the end."""
        return self.run(self._stack.enter_async_context(server))

    def close(self) -> None:
        """Close all servers, then the loop."""
        try:
            self.run(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()


@contextlib.contextmanager
def backstage() -> Iterator[Backstage]:
    """A backstage that is closed at the end."""
    stage = Backstage()
    try:
        yield stage
    finally:
        stage.close()


@dataclass(frozen=True)
class Behind:
    """An upstream: its URL, the one model it serves, further settings. Each has a breaker of its own."""

    url: str
    model: str
    options: Mapping[str, object] = field(default_factory=dict)


def write_upstreams(folder: Path, upstreams: Sequence[Behind]) -> None:
    """A `slipstream.toml` that names these upstreams."""
    lines = []
    for number, each in enumerate(upstreams):
        values = {"url": each.url, "models": [each.model], **each.options}
        lines.append(f"[models.upstreams.up{number}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    (folder / "slipstream.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextlib.contextmanager
def gateway(folder: Path, upstreams: Sequence[Behind], **settings: str) -> Iterator[Serving]:
    """A server with these upstreams; `settings` (`MODELS__ATTEMPTS="1"`) add to `SETTINGS`."""
    write_upstreams(folder, upstreams)
    given = {f"SLIPSTREAM__{name}": value for name, value in settings.items()}
    with serving(folder, **{**SETTINGS, **given}) as server:
        yield server


@dataclass
class Here:
    """A gateway in the running loop, with what a test wants to look into."""

    url: str
    server: GatewayServer
    parts: Parts
    counters: Counters
    records: list[Record]

    def pools(self) -> list[PoolSnapshot]:
        """The connections to each upstream."""
        models = [model for _, _, model in self.parts._models]
        return [model._client.snapshot() for model in models if isinstance(model, OpenAIUpstream)]

    async def settled(self) -> None:
        """Wait until nothing is in flight and every upstream connection rests; it must come to that."""
        deadline = asyncio.get_running_loop().time() + 20
        while self.server.in_flight or any(p.open != p.idle or p.opening or p.waiting for p in self.pools()):
            assert asyncio.get_running_loop().time() < deadline, (self.server.in_flight, self.pools())
            await asyncio.sleep(0.001)


class _Sink:
    def __init__(self) -> None:
        self.records: list[Record] = []

    def take(self, record: Record) -> None:
        self.records.append(record)


@contextlib.asynccontextmanager
async def gateway_here(
    behind: Sequence[Behind], *, server: Mapping[str, object] | None = None, **models: object
) -> AsyncIterator[Here]:
    """A gateway on this loop; `server` and `models` are settings of those sections."""
    upstreams = {
        f"up{number}": {"url": each.url, "models": [each.model], **each.options}
        for number, each in enumerate(behind)
    }
    embedder = {"enabled": "off"}
    settings = msgspec.convert(
        {"server": server or {}, "models": {"upstreams": upstreams, "embedder": embedder, **models}}, Settings
    )
    counted, sink, free = Counters(), _Sink(), keyring([], required=False)
    parts = build_parts(
        settings, sink=sink, counters=counted, keyring=lambda: free, local_address=lambda: OFF
    )
    gateway = GatewayServer(
        settings, parts, keyring=lambda: free, control_socket="/nowhere/control.sock", counters=counted
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        await gateway.start(listener)
        try:
            yield Here(f"http://127.0.0.1:{listener.getsockname()[1]}", gateway, parts, counted, sink.records)
        finally:
            await gateway.aclose()
            await parts.aclose()


def counters(server: Serving) -> dict[str, int]:
    """What the server has counted, as of the last second."""
    counted = server.json("/_slipstream/status")["counters"]
    assert isinstance(counted, dict)
    return counted


def workers(server: Serving) -> list[psutil.Process]:
    """The processes that serve."""
    found = server.json("/_slipstream/status")["workers"]
    assert isinstance(found, list)
    return [psutil.Process(worker["pid"]) for worker in found]


def in_flight(server: Serving) -> int:
    """Requests that are being answered, as of the last second."""
    found = server.json("/_slipstream/status")["workers"]
    assert isinstance(found, list)
    return sum(worker["in_flight"] for worker in found)
