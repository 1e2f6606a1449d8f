"""Where an upstream is: its URL taken apart, its request heads written, its connections opened.

Every error of the network below is translated here. It knows no pool.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from slipstream.core.errors import BadRequest, ConfigurationError, UpstreamFailed, UpstreamTimeout
from slipstream.net.tls import client_context

Headers = Sequence[tuple[bytes, bytes]]
P = TypeVar("P", bound=asyncio.Protocol)

OWNED = frozenset(
    b"connection content-length expect host keep-alive proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
"""Headers that belong to one connection: never taken over from a caller."""

STARTS_KEPT = 64
_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\r\n\0]*\r\n)*")
_METHOD = re.compile(r"[A-Z]{1,20}")
_WITHOUT_BODY = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))


class Origin:
    """One upstream server.

    Args:
        url: `scheme://host:port/base-path`; http or https. Raises `ConfigurationError` for anything else.
        unix_path: talk over this Unix socket instead of TCP.
        ca_file: PEM file of the authority to trust instead of the system's.
        connect_seconds: time to open a connection, name look-up and TLS included.
    """

    __slots__ = (
        "_base",
        "_ca_file",
        "_connect_seconds",
        "_context",
        "_host_line",
        "_rendered",
        "_rendered_from",
        "_starts",
        "_unix_path",
        "host",
        "is_tls",
        "port",
    )

    def __init__(self, url: str, *, unix_path: str, ca_file: str, connect_seconds: float) -> None:
        self.is_tls, self.host, self.port, base = _split(url)
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.is_tls else 80
        self._host_line = f"host: {host}\r\n" if self.port == default else f"host: {host}:{self.port}\r\n"
        self._base = base
        self._unix_path = unix_path
        self._ca_file = ca_file
        self._connect_seconds = connect_seconds
        self._context: ssl.SSLContext | None = None
        self._rendered_from: Headers | None = None
        self._rendered = b""
        self._starts: dict[tuple[str, str], bytes] = {}

    def __str__(self) -> str:
        return self._unix_path or f"{self.host}:{self.port}"

    def head(self, method: str, path: str, headers: Headers, body_bytes: int, own: bytes = b"") -> bytes:
        """The head of a request. `path` follows the base path and may carry a query.

        Headers of `OWNED` are left out: they are this side's to set. `own` are whole header lines of our
        making, taken as they are. Raises `BadRequest` for anything that cannot stand in a head.
        """
        start = self._starts.get((method, path)) or self._start(method, path)
        if headers is self._rendered_from:
            rendered = self._rendered
        else:
            rendered = _render(headers)
            if type(headers) is tuple:  # cannot change: callers that always send the same pay once
                self._rendered_from, self._rendered = headers, rendered
        if body_bytes or method not in _WITHOUT_BODY:
            return b"%bcontent-length: %d\r\n%b%b" % (start, body_bytes, own, rendered)
        return start + own + rendered

    def _start(self, method: str, path: str) -> bytes:
        """Request line and host; the few paths that are asked again and again are kept."""
        target = self._base + path
        if not target.startswith("/"):
            target = "/" + target
        if not (target.isascii() and target.isprintable()) or " " in target or not _METHOD.fullmatch(method):
            raise BadRequest(f"{method!r} {target!r} cannot be asked for.", code="invalid_path")
        start = f"{method} {target} HTTP/1.1\r\n{self._host_line}".encode()
        if len(self._starts) < STARTS_KEPT:
            self._starts[method, path] = start
        return start

    async def connect(self, create: Callable[[], P]) -> P:
        """An open connection. Raises `UpstreamFailed` or `UpstreamTimeout`; a cancelled one is closed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                context = await self._tls(loop)
                name = self.host if context is not None else None
                if self._unix_path:
                    _, protocol = await loop.create_unix_connection(
                        create, self._unix_path, ssl=context, server_hostname=name
                    )
                else:
                    _, protocol = await loop.create_connection(
                        create, self.host, self.port, ssl=context, server_hostname=name
                    )
        except TimeoutError:
            raise UpstreamTimeout(
                f"No connection to {self} within {self._connect_seconds:g} s.",
                hint="Check that it is up and can be reached; `models.connect_seconds` sets the time.",
                code="connect_timeout",
            ) from None
        except OSError as error:
            raise self._translated(error) from None
        return protocol

    async def _tls(self, loop: asyncio.AbstractEventLoop) -> ssl.SSLContext | None:
        if self.is_tls and self._context is None:  # reads files: 10 ms and more
            self._context = await loop.run_in_executor(None, client_context, self._ca_file)
        return self._context

    def _translated(self, error: OSError) -> UpstreamFailed:
        if isinstance(error, ssl.SSLCertVerificationError):
            return UpstreamFailed(
                f"The certificate of {self} is not trusted: {error.verify_message}.",
                hint="For an authority of your own, name its PEM file in `ca_file`.",
                code="tls_failed",
            )
        if isinstance(error, ssl.SSLError):
            return UpstreamFailed(
                f"TLS with {self} failed: {error.reason or error}.",
                hint="Check that its `url` should begin with https://.",
                code="tls_failed",
            )
        if isinstance(error, socket.gaierror):
            return UpstreamFailed(
                f"The host name {self.host!r} was not found: {error.strerror}.",
                hint="Check the `url` of the upstream and this machine's DNS.",
                code="dns_failed",
            )
        return UpstreamFailed(
            f"No connection to {self}: {error.strerror or error}.",
            hint="Check that the server runs and listens there.",
            code="connect_failed",
        )


def _split(url: str) -> tuple[bool, str, int, str]:
    """TLS or not, host, port, base path without a slash at its end."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host = host if host.isascii() else host.encode("idna").decode()
    except ValueError as error:
        raise _wrong(url, str(error)) from None
    base = parts.path.rstrip("/")
    if parts.scheme not in {"http", "https"}:
        raise _wrong(url, "it begins with neither http:// nor https://")
    if not host or not host.isprintable() or " " in host:
        raise _wrong(url, "it has no host")
    if parts.username is not None or parts.query or parts.fragment:
        raise _wrong(url, "it holds a user name, a query or a fragment")
    if not (base.isascii() and base.isprintable()) or " " in base:
        raise _wrong(url, "its path has characters that must be escaped")
    is_tls = parts.scheme == "https"
    return is_tls, host, port or (443 if is_tls else 80), base


def _wrong(url: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The URL {_without_secrets(url)!r} cannot be used: {why}.",
        hint="Write it like https://api.example.com/v1; keys go into `key_env` or `key_file`.",
    )


def _without_secrets(url: str) -> str:
    """A URL as it may be told and logged: without what stands for a user, and without its query."""
    plain = url.partition("?")[0].partition("#")[0]
    start, slashes, rest = plain.rpartition("//")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{start}{slashes}{'***@' if user else at}{host}{slash}{path}"


def _render(headers: Headers) -> bytes:
    """The header lines and the empty line after them."""
    lines = [b"%b: %b\r\n" % pair for pair in headers if pair[0].lower() not in OWNED]
    block = b"".join(lines)
    if _LINES.fullmatch(block) is None or block.count(b"\n") != len(lines):  # a value may hold a whole line
        raise BadRequest("A header has a character that cannot stand there.", code="invalid_header")
    return block + b"\r\n"
