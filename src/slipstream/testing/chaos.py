"""A fault proxy for TCP, HTTP and server-sent events: relays on loopback, and breaks what it is told to.

The command is `slipstream chaos`; tests use `Chaos`. What a fault does is decided in `chaos_toxics` and
`chaos_response`; this file only owns the listener, the connections and the clock of the windows.
"""

import asyncio
import dataclasses
import ipaddress
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from slipstream.core import clock
from slipstream.core.errors import ConfigurationError
from slipstream.testing.chaos_faults import Fault
from slipstream.testing.chaos_listener import HOST, Listener
from slipstream.testing.chaos_relay import Counts, Relay, Side
from slipstream.testing.chaos_set import FaultSet

_CLOSE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where a proxy sends its connections."""

    host: str
    port: int
    named: bool
    """Whether the host was allowed by name; others must be, and connect to, loopback."""


def read_target(url: str, *, allow_hosts: Collection[str] = ()) -> Target:
    """Read `http://host:port`, `tcp://host:port` or `host:port`.

    Raises:
        ConfigurationError: not such an address, or a host that is neither loopback nor in `allow_hosts`.
    """
    text = url if "://" in url else f"tcp://{url}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 0)
    except ValueError:
        raise ConfigurationError(f"Not an address: {url!r}.", hint="Write http://127.0.0.1:9000.") from None
    if parts.scheme == "https":
        hint = "Write tcp://host:port: bytes are relayed, but faults on HTTP and SSE cannot see into TLS."
        raise ConfigurationError("The fault proxy speaks no TLS.", hint=hint)
    if parts.scheme not in {"http", "tcp"} or not host or not port or parts.username is not None:
        raise ConfigurationError(f"Not an address: {url!r}.", hint="Write http://127.0.0.1:9000.")
    named = host in allow_hosts
    if not named and host != "localhost" and not _is_loopback(host):
        raise ConfigurationError(
            f"{host} is not on this machine.", hint=f"If you mean it: --allow-host {host}"
        )
    return Target(host, port, named)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Chaos:
    """A fault proxy in this event loop; use it as an async context manager.

    ```python
    async with Chaos("http://127.0.0.1:9000", faults=["sse_reset@3,rate=0.1"], seed=7) as chaos:
        ...  # send requests to chaos.url
        chaos.set(["latency:down,ms=200"])
    ```

    Args:
        upstream: where connections go: `http://host:port` or `tcp://host:port`.
        faults: lines of the grammar (`docs/chaos.md`) or `Fault`s, in the order they act.
        seed: of every random draw.
        port: to listen on, on 127.0.0.1; 0 = a free one.
        max_connections: open at the same time; further ones are reset and counted.
        buffer_bytes: how much of each direction of a connection may wait before its reader is paused.
        connect_seconds: time to connect to the upstream.
        allow_hosts: upstream hosts that need not be loopback.

    Raises:
        ConfigurationError: a fault or the address cannot be used, or the port is taken.
    """

    def __init__(
        self,
        upstream: str,
        *,
        faults: Sequence[Fault | str] = (),
        seed: int = 0,
        port: int = 0,
        max_connections: int = 1024,
        buffer_bytes: int = 1024 * 1024,
        connect_seconds: float = 5.0,
        allow_hosts: Collection[str] = (),
    ) -> None:
        self._target = read_target(upstream, allow_hosts=allow_hosts)
        self.upstream, self.seed = upstream, seed
        self.faults = FaultSet(seed)
        self.faults.replace(faults, clock.monotonic_ns())
        self._initial = tuple(faults)
        self._max_connections, self._buffer_bytes = max_connections, buffer_bytes
        self._connect_seconds = connect_seconds
        self.totals = Counts()
        self._relays: set[Relay] = set()
        self._listener = Listener(port, self._accept, backlog=min(max_connections, 1024))
        self._edge: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._open = False

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._listener.port

    @property
    def url(self) -> str:
        """What clients are to connect to."""
        return f"http://{HOST}:{self.port}"

    @property
    def counts(self) -> Counts:
        """What went through so far; a copy."""
        return dataclasses.replace(self.totals, open=len(self._relays), hits=dict(self.faults.hits))

    def set(self, faults: Sequence[Fault | str]) -> None:
        """Set these faults and no others, on new and open connections; windows count from now.

        Raises:
            ConfigurationError: one of them cannot be used; nothing has changed.
        """
        self.faults.replace(faults, clock.monotonic_ns())
        self._apply()

    def add(self, fault: Fault | str) -> Fault:
        """Set one more and return it with its name.

        Raises:
            ConfigurationError: it cannot be used, or its name is taken.
        """
        added = self.faults.add(fault, clock.monotonic_ns())
        self._apply()
        return added

    def remove(self, name: str) -> bool:
        """Take the fault of this name away; what it held goes on. False if there is none."""
        found = self.faults.remove(name)
        if found:
            self._apply()
        return found

    async def __aenter__(self) -> Self:
        self.faults.replace(self._initial, clock.monotonic_ns())
        self._empty.set()
        self._listener.open()
        self._open = True
        self._apply()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening and close every connection; safe to call twice."""
        self._open = False
        if self._edge is not None:
            self._edge.cancel()
        # All of it before the first wait, so that a cancellation here leaves nothing open.
        self._listener.close()
        for relay in list(self._relays):
            relay.abort()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._listener.settled()
                await self._empty.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self._relays)} connections were not closed") from None

    def _apply(self) -> None:
        """Bring the listener and every connection in line with the faults that are active now."""
        if not self._open:
            return
        now = clock.monotonic_ns()
        stops = [fault for fault in self.faults.refusals(now) if fault.mode == "stop"]
        if stops and self._listener.is_open:
            self._listener.close()
            self.faults.take(stops[0])
        elif not stops and not self._listener.is_open:
            self._listener.open()
        for relay in list(self._relays):
            if not relay.closing:
                relay.refit()
        if self._edge is not None:
            self._edge.cancel()
        edge = self.faults.next_edge(now)
        loop = asyncio.get_running_loop()
        self._edge = loop.call_later((edge - now) / 1e9, self._apply) if edge is not None else None

    def _accept(self) -> Side:
        return Relay(self, self._buffer_bytes).client

    def admit(self, relay: Relay) -> int | None:
        """Take note of a relay and give its number; None = there is no room for it."""
        number = self.totals.connections
        self.totals.connections += 1
        has_room = len(self._relays) < self._max_connections
        # Noted even without room: it is closed, and `aclose` waits for that too.
        self._relays.add(relay)
        self._empty.clear()
        if not has_room:
            self.totals.over_limit += 1
        return number if has_room and self._open else None

    async def connect(self, side: asyncio.Protocol) -> None:
        """Connect a relay's upstream side.

        Raises:
            OSError: it could not be reached in time.
        """
        async with asyncio.timeout(self._connect_seconds):
            await asyncio.get_running_loop().create_connection(
                lambda: side, self._target.host, self._target.port
            )

    def trusts(self, address: str) -> bool:
        """Whether an upstream at this address may be sent anything: `localhost` can lead off this machine."""
        return self._target.named or _is_loopback(address)

    def ended(self, relay: Relay) -> None:
        """Forget a relay whose sockets are closed."""
        self._relays.discard(relay)
        if not self._relays:
            self._empty.set()
