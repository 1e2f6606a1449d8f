"""What a request must look like before anybody reads its body: Host, Origin, content type. Pure checks.

Against DNS rebinding the Host must be one of ours; against pages of other sites, which can reach a
loopback server from any browser, foreign `Origin` and `Sec-Fetch-Site` are refused and JSON is asked
for, because a form cannot send it (DESIGN §9.5).
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping

from slipstream.core.errors import BadRequest, NotAllowed, SlipstreamError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
JSON = b"application/json"
HOSTS_KEPT = 64
"""Host headers that are known to be good: clients send the same one each time."""

_OWN_SITES = frozenset({b"same-origin", b"none"})
_NAME = re.compile(rb"[a-z0-9._~-]+|\[[0-9a-f:.]+\]")
_CHANGING = frozenset({b"POST", b"PUT", b"PATCH", b"DELETE"})


class Guard:
    """Decides on headers alone.

    Args:
        host: the address listened on; off loopback any Host will do, because a key is required there.
        allowed_hosts: further host names, `*` for any.
        allowed_origins: web origins whose pages may call the API.
    """

    def __init__(
        self, host: str, allowed_hosts: Iterable[str] = (), allowed_origins: Iterable[str] = ()
    ) -> None:
        names = set(LOOPBACK_NAMES) | {host.lower()} | {name.lower() for name in allowed_hosts}
        self._any_host = "*" in names or (not allowed_hosts and not is_loopback(host))
        self._hosts = frozenset(
            name.encode("idna" if not name.isascii() else "ascii") for name in names if name
        )
        self._known: set[bytes] = set()
        self._origins = frozenset(origin.rstrip("/").encode() for origin in allowed_origins)

    def check(
        self, method: bytes, headers: Mapping[bytes, bytes], *, path: bytes = b"/"
    ) -> SlipstreamError | None:
        """The reason to refuse a request, None if there is none. A link may lead to pages, not to the API."""
        host = headers.get(b"host", b"")
        if host not in self._known:
            error = self._host_error(host)
            if error is not None:
                return error
            if len(self._known) < HOSTS_KEPT:
                self._known.add(host)
        if b"origin" not in headers and b"sec-fetch-site" not in headers:
            return None  # no browser
        origin = headers.get(b"origin")
        if origin is not None and origin != b"null" and (origin in self._origins or _host_of(origin) == host):
            return None
        if origin is not None or headers.get(b"sec-fetch-site", b"none") not in _OWN_SITES:
            navigates = origin is None and headers.get(b"sec-fetch-mode") == b"navigate"
            safe = navigates and method not in _CHANGING and not path.startswith(b"/v1")
            if not safe:
                return NotAllowed(
                    "Pages of other sites may not call this server.",
                    hint="Add the page's origin to the setting server.allowed_origins.",
                    code="foreign_origin",
                    status=403,
                )
        return None

    def _host_error(self, host: bytes) -> BadRequest | None:
        name = _name_of(host)
        if self._any_host:
            if _NAME.fullmatch(name) is None:
                return BadRequest("The Host is not a host name.", code="invalid_host")
        elif name not in self._hosts:
            return BadRequest(
                f"The Host {host.decode('latin-1')[:200]!r} is not served here.",
                hint="Add it to the setting server.allowed_hosts.",
                code="wrong_host",
                status=421,
            )
        return None

    def allows_origin(self, origin: bytes) -> bool:
        """Whether a page of `origin` may call the API and read the answer (CORS)."""
        return origin in self._origins


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Raise `BadRequest` (415) unless the body is said to be JSON."""
    kind = headers.get(b"content-type", b"")
    if kind != JSON and kind.split(b";", 1)[0].strip().lower() != JSON:
        raise BadRequest(
            "The content type must be application/json.",
            hint="Send the header `Content-Type: application/json`.",
            code="wrong_content_type",
            status=415,
        )
    if b"content-encoding" in headers and headers[b"content-encoding"] != b"identity":
        raise BadRequest("Compressed request bodies are not accepted.", code="wrong_encoding", status=415)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def secret_of(headers: Mapping[bytes, bytes]) -> str:
    """The key that a request presents: bearer token, `x-api-key`, `api-key`, or the session cookie."""
    authorization = headers.get(b"authorization")
    if authorization is not None and authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip().decode("latin-1")
    for name in (b"x-api-key", b"api-key"):
        if name in headers:
            return headers[name].decode("latin-1")
    cookie = headers.get(b"cookie")
    if cookie is not None:
        for pair in cookie.split(b";"):
            name, _, value = pair.strip().partition(b"=")
            if name == SESSION_COOKIE:
                return value.decode("latin-1")
    return ""


SESSION_COOKIE = b"slipstream_session"


def _name_of(host: bytes) -> bytes:
    """The name in a Host header, without its port; empty for one that holds anything but a name."""
    host = host.lower()
    if host.startswith(b"["):
        name, bracket, port = host.partition(b"]")
        return name + bracket if bracket and (not port or (port[:1] == b":" and port[1:].isdigit())) else b""
    name, colon, port = host.partition(b":")
    return name if not colon or port.isdigit() else b""


def _host_of(origin: bytes) -> bytes:
    return origin.partition(b"://")[2]
