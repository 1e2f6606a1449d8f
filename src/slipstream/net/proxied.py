"""The HTTP client for an upstream behind a proxy: what `net.client` does, by way of aiohttp.

Plain requests go to the proxy in absolute form, TLS through CONNECT. The bounds are those of the direct
client, but for the greatest age of a connection, which aiohttp does not know. A kept connection that turns
out dead is an error like any other: the attempt loop tries again.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slipstream.core import clock
from slipstream.core.errors import (
    BadRequest,
    ConfigurationError,
    MissingExtra,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from slipstream.net.client import DEFAULTS, ClientOptions
from slipstream.net.origin import OWNED, Origin
from slipstream.net.response import Piece, first_header
from slipstream.net.tls import client_context

if TYPE_CHECKING:
    import aiohttp

BUFFER_BYTES = 64 * 1024
"""Unread bytes at which the upstream is paused; twice as many may be there."""


class ProxiedClient:
    """Requests to one upstream through an HTTP proxy, on one running loop. Opens nothing before the first.

    Args:
        url: the upstream, `scheme://host:port/base-path`; https verifies certificates.
        proxy: `http://host:port`, with `user:password@` where the proxy asks for it.
        options: the bounds.

    Raises `MissingExtra` where aiohttp is not installed, `ConfigurationError` for a URL that cannot be used.
    """

    def __init__(self, url: str, proxy: str, options: ClientOptions = DEFAULTS) -> None:
        try:
            import aiohttp
        except ImportError:
            raise MissingExtra("The transport for upstreams behind a proxy", "proxy") from None
        self._url = url.rstrip("/")
        self._origin = Origin(
            url, unix_path="", ca_file=options.ca_file, connect_seconds=options.connect_seconds
        )
        self._proxy = proxy
        self._proxy_name = _name_of(proxy)
        self._options = options
        self._session: aiohttp.ClientSession | None = None
        self._opening: asyncio.Lock | None = None
        self._asking: set[object] = set()
        self._is_closed = False

    async def request(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes = b"",
        *,
        request_id: str = "",
        step: Callable[[str], AbstractContextManager[None]] | None = None,
    ) -> "ProxiedResponse":
        """Send a request; returns when the head of its answer is here. See `HttpClient.request`.

        Its connections are aiohttp's, which does not tell how long one was waited for: `step` is not called.
        """
        import aiohttp
        import yarl

        if request_id:
            headers = (*headers, (b"x-request-id", request_id.encode()))
        self._origin.head(method, path, headers, len(body))  # refuses what cannot be sent
        session = self._session or await self._open()
        place = self._enter()
        response = None
        try:
            response = await session.request(
                method,
                yarl.URL(self._url + path, encoded=True),
                headers=[(k.decode(), v.decode("latin-1")) for k, v in headers if k.lower() not in OWNED],
                data=body or None,
                allow_redirects=False,
                proxy=self._proxy,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._translated(error) from None
        except ValueError as error:
            raise BadRequest(f"The request cannot be sent: {error}.", code="invalid_header") from None
        finally:
            if response is None:
                self._asking.discard(place)
        return ProxiedResponse(response, lambda: self._asking.discard(place))

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way or waits for a connection."""
        return bool(self._asking)

    async def aclose(self) -> None:
        """Close every connection at once."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _enter(self) -> object:
        """A place among the requests that are under way: as many as connections and waiters together."""
        options = self._options
        if len(self._asking) >= options.connections + options.waiting:
            raise Unavailable(
                f"All {options.connections} connections to {self._origin} are in use and "
                f"{options.waiting} requests wait.",
                hint="Raise `connections` or `waiting` of this upstream, or lower the load.",
                code="pool_exhausted",
                retry_after_seconds=1.0,
            )
        place = object()
        self._asking.add(place)
        return place

    async def _open(self) -> "aiohttp.ClientSession":
        import aiohttp

        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if self._is_closed:
                raise Unavailable("The connections to this upstream are shut.", code="client_closed")
            if self._session is not None:
                return self._session
            options = self._options
            loop = asyncio.get_running_loop()
            context = await loop.run_in_executor(None, client_context, options.ca_file)
            connector = aiohttp.TCPConnector(
                limit=options.connections, keepalive_timeout=options.idle_seconds, ssl=context
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=options.wait_seconds + options.connect_seconds,
                    sock_connect=options.connect_seconds,
                ),
                read_bufsize=BUFFER_BYTES,
                max_field_size=options.header_bytes,
            )
            return self._session

    def _translated(self, error: Exception) -> UpstreamFailed:
        """aiohttp's error in our words; the first that fits, so the order matters."""
        import aiohttp

        way = f"{self._origin} through the proxy {self._proxy_name}"
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return UpstreamFailed(
                f"The proxy {self._proxy_name} answered {error.status} when asked for {self._origin}.",
                hint="Check `proxy` of this upstream, and what the proxy allows.",
                code="proxy_refused",
            )
        if isinstance(error, TimeoutError):
            return UpstreamTimeout(
                f"No connection to {way} in time.",
                hint="`models.connect_seconds` and `wait_seconds` of this upstream set the time.",
                code="connect_timeout",
            )
        if isinstance(error, aiohttp.ClientSSLError):
            return UpstreamFailed(
                f"TLS with {way} failed: {error}.",
                hint="For an authority of your own, name its PEM file in `ca_file`.",
                code="tls_failed",
            )
        if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientConnectorError):
            return UpstreamFailed(
                f"No connection to {way}: {error.os_error.strerror or error.os_error}.",
                hint="Check that the proxy runs and listens there.",
                code="connect_failed",
            )
        return UpstreamFailed(
            f"No answer from {way}: {error or type(error).__name__}.", code="upstream_broke"
        )


class ProxiedResponse:
    """An answer whose head has arrived; used like `net.response.Response`.

    Attributes:
        status: the HTTP status.
        headers: all headers in order, names in lower case.
        arrived_ns: `clock.monotonic_ns()` when the head was here.
    """

    def __init__(self, response: "aiohttp.ClientResponse", release: Callable[[], None]) -> None:
        self.status = response.status
        self.headers = tuple((name.lower(), value) for name, value in response.raw_headers)
        self.arrived_ns = clock.monotonic_ns()
        self._response = response
        self._release = release
        self._whole: bytes | None = None
        self._is_read = False

    def header(self, name: bytes) -> bytes:
        """The first header of that lower-case name; empty where there is none."""
        return first_header(self.headers, name)

    @property
    def whole(self) -> bytes | None:
        """The full body if all of it is here and nothing of it was iterated; else None."""
        content = self._response.content
        if self._whole is None and not self._is_read and content.is_eof() and content.exception() is None:
            self._whole = content.read_nowait()
        return None if self._is_read else self._whole

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `UpstreamFailed` (code `answer_too_large`) beyond `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        async for piece in self:
            size += len(piece.data)
            if size > limit:
                self.close()
                raise UpstreamFailed(
                    f"The answer is larger than {limit} bytes.",
                    hint="Raise `models.answer_bytes`, or ask for less.",
                    code="answer_too_large",
                )
            parts.append(piece.data)
        return b"".join(parts)

    def close(self) -> None:
        """Let go of it. An unfinished answer is cancelled at its source at once. Never raises."""
        self._is_read = True
        self._whole = None
        self._response.close()
        self._release()

    def __aiter__(self) -> "ProxiedResponse":
        return self

    async def __anext__(self) -> Piece:
        import aiohttp

        kept, self._whole = self._whole, None
        self._is_read = True
        if kept:
            return Piece(kept, self.arrived_ns)
        data = None
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UpstreamFailed(
                f"The answer broke off: {error or type(error).__name__}.", code="upstream_broke"
            ) from None
        finally:
            if not data:  # its end, an error, or cancelled: nothing is left behind whoever forgets
                self.close()
        if not data:
            raise StopAsyncIteration
        return Piece(data, clock.monotonic_ns())


def _name_of(proxy: str) -> str:
    """Host and port of a proxy's URL, without what is secret in it."""
    try:
        parts = urlsplit(proxy)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme != "http" or not host or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigurationError(
            "The proxy of an upstream cannot be used: it must be written like http://proxy:3128.",
            hint="With a user: http://user:password@proxy:3128.",
        )
    return f"{host}:{port}" if port else host
