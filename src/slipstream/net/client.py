"""The HTTP client of the data plane: one upstream, kept-alive connections, no redirects, no cookies.

Costs one future and no task per request. A proxy between us and the upstream is another
transport's business.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import msgspec

from slipstream.core import clock
from slipstream.core.meters import Counters
from slipstream.core.pool import PoolLimits, PoolSnapshot
from slipstream.core.record import QUEUE
from slipstream.core.use import UseRow
from slipstream.net.origin import Origin
from slipstream.net.pool import Connections, closed
from slipstream.net.response import Piece, Response

__all__ = ["ClientOptions", "HttpClient", "Piece", "Response"]


class ClientOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a client."""

    connections: int = 256
    """Most connections, those being opened included."""
    waiting: int = 1024
    """Most requests waiting for a connection; 0 = none waits."""
    wait_seconds: float = 10.0
    idle_seconds: float = 30.0
    """How long an unused connection is kept."""
    life_seconds: float = 600.0
    """Oldest a connection may get; each one's own is up to 10 % shorter, so that not all end at once."""
    connect_seconds: float = 5.0
    header_bytes: int = 64 * 1024
    ca_file: str = ""
    minimum: int = 0
    """Connections kept open ahead of need, once used or `warm`ed."""

    def limits(self) -> PoolLimits:
        """The same for the pool's core."""
        return PoolLimits(
            size=self.connections,
            waiting=self.waiting,
            wait_ns=int(self.wait_seconds * 1e9),
            idle_ns=int(self.idle_seconds * 1e9),
            life_ns=int(self.life_seconds * 1e9),
            minimum=min(self.minimum, self.connections),
        )


DEFAULTS = ClientOptions()


class HttpClient:
    """Requests to one upstream, on one running loop. Nothing is opened or read before the first.

    Args:
        url: `scheme://host:port/base-path`; https verifies certificates. Raises `ConfigurationError`.
        options: the bounds.
        unix_path: talk over this Unix socket; `url` still names host and base path.
        counters: where `upstream_stale_connections` is counted.

    Example:
        client = HttpClient("https://api.example.com/v1")
        response = await client.request("POST", "/chat/completions", headers, body)
        try:
            async for piece in response: ...
        finally:
            response.close()
    """

    __slots__ = ("_counters", "_is_closed", "_options", "_origin", "_pool")

    def __init__(
        self,
        url: str,
        options: ClientOptions = DEFAULTS,
        *,
        unix_path: str = "",
        counters: Counters | None = None,
    ) -> None:
        self._options = options
        self._origin = Origin(
            url, unix_path=unix_path, ca_file=options.ca_file, connect_seconds=options.connect_seconds
        )
        self._counters = counters
        self._is_closed = False
        self._pool: Connections | None = None

    async def request(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes = b"",
        *,
        request_id: str = "",
        step: Callable[[str], AbstractContextManager[None]] | None = None,
    ) -> Response:
        """Send a request; returns when the head of its answer is here. `path` is added to the base path.

        `host`, `content-length` and what concerns the connection are set here, whatever `headers` say.
        `request_id`, one of ours, goes as `x-request-id`: beside `headers`, so that a tuple of them that
        is always the same is checked and written out only once. `step` times a wait for a connection,
        where there is one, under the name `queue`.
        A kept connection that had died unnoticed is replaced once, if no byte of an answer came.
        Cancelled at any point it leaves nothing behind.

        Raises:
            UpstreamFailed: no connection, TLS not trusted, or an answer that is none.
            UpstreamTimeout: connecting or waiting for a free connection took too long.
            Unavailable: too many wait already, or the client is closed.
            BadRequest: `path` or `headers` hold what cannot be sent.
        """
        pool = self._pool or self._open()
        own = b"x-request-id: %b\r\n" % request_id.encode() if request_id else b""
        head = self._origin.head(method, path, headers, len(body), own)
        now_ns = clock.monotonic_ns()
        slot = pool.take(now_ns)
        if slot is None:
            with step(QUEUE) if step is not None else nullcontext():
                slot = await pool.wait(now_ns)
        while True:
            if (connection := slot.resource) is None:
                await pool.fill(slot)
                connection = slot.resource
                assert connection is not None
            response = connection.send(head, body, is_head_only=method == "HEAD")
            is_settled = False
            try:
                while not response.status and response.error is None:
                    await response.wait()
                is_settled = True
            finally:
                if not is_settled:
                    response.close()
                    if response.is_stale:
                        pool.give_up(slot, "lost")
            if response.status:
                return response
            if not response.is_stale:
                assert response.error is not None
                raise response.error
            if self._counters is not None:  # the place is still ours, and empty: once more, on a fresh one
                self._counters.count("upstream_stale_connections")

    async def warm(self) -> None:
        """Open the `minimum` of connections now. An upstream that is down is no error yet."""
        await (self._pool or self._open()).warm()

    async def aclose(self) -> None:
        """Close every connection at once and turn away who waits for one."""
        self._is_closed = True
        if self._pool is not None:
            await self._pool.close()

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way or waits for a connection."""
        now = self.snapshot()
        return now.in_use + now.opening + now.waiting > 0

    def snapshot(self) -> PoolSnapshot:
        """The connections as they are now, and what was counted."""
        return self._pool.snapshot() if self._pool is not None else PoolSnapshot()

    def use(self, part: str) -> UseRow:
        """How the pool does: connections in use, requests that wait for one, and those that got none."""
        seen = self.snapshot()
        most = self._options.connections
        return UseRow(
            part,
            (seen.in_use + seen.opening) / most,
            float(seen.waiting),
            "requests",
            seen.refused + seen.timed_out,
            f"{most:,} connections",
        )

    def _open(self) -> Connections:
        if self._is_closed:
            raise closed()
        self._pool = Connections(self._origin, self._options.limits(), self._options.header_bytes)
        return self._pool
