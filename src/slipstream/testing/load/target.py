"""What a load test is aimed at: a URL and the dialect spoken there, or a callable in this process."""

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from slipstream.core.errors import BadRequest, ConfigurationError
from slipstream.net.origin import Origin

Dialect = Literal["openai_chat", "openai_completions", "anthropic", "http"]

ROUTES: dict[Dialect, str] = {
    "openai_chat": "/v1/chat/completions",
    "openai_completions": "/v1/completions",
    "anthropic": "/v1/messages",
    "http": "",
}
"""Where each dialect asks, if the URL is only a base."""


class Target(Struct, frozen=True, kw_only=True):
    """A server.

    Raises `ConfigurationError` for a URL or headers that cannot be used.
    """

    url: str
    """`http(s)://host:port`, with `/v1` or the whole route behind it if you like; of `http` the exact URL."""
    dialect: Dialect = "openai_chat"
    model: str = ""
    """The `model` to ask for."""
    key: str = ""
    """Sent as the dialect wants it (`Authorization: Bearer`, or `x-api-key`)."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers."""
    streaming: bool = True
    extra: str = ""
    """Further fields of each body, as a JSON object."""
    ca_file: str = ""
    """PEM file of the authority to trust instead of the system's; of `https` URLs."""
    method: str = "POST"
    """Of the dialect `http`."""

    def __post_init__(self) -> None:
        """Refuse here what no request could be made of."""
        try:
            origin = Origin(self.origin, unix_path="", ca_file="", connect_seconds=1)
        except ConfigurationError as error:
            raise ConfigurationError(
                error.message.replace("The URL", "The target"),
                hint="Write it like http://127.0.0.1:8000.",
            ) from None
        try:
            origin.head(self.verb, self.path, self.wire_headers(), 0)
            msgspec.json.decode(self.extra or "{}", type=dict[str, msgspec.Raw])
        except BadRequest as error:
            raise ConfigurationError(
                f"No request can be made to {self.url!r}: {error}",
                hint="Check method, path, key and headers.",
            ) from None
        except UnicodeEncodeError:
            raise ConfigurationError(
                "A header or the key has a character that HTTP cannot carry.",
                hint="Write it in Latin letters.",
            ) from None
        except msgspec.MsgspecError as error:
            raise ConfigurationError(
                f"Extra fields are not a JSON object: {error}.", hint='Write them like {"temperature": 0}.'
            ) from None

    @property
    def verb(self) -> str:
        """The HTTP method."""
        return self.method if self.dialect == "http" else "POST"

    @property
    def host(self) -> str:
        """The host that is asked."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int | None:
        """Its port; None = the scheme's own."""
        return urlsplit(self.url).port

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def path(self) -> str:
        """The path and query that are asked for."""
        parts = urlsplit(self.url)
        route = ROUTES[self.dialect]
        if self.dialect == "http":
            return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        base = parts.path.rstrip("/")
        if base.endswith(route.removeprefix("/v1")):
            return base
        return base + (route.removeprefix("/v1") if base.endswith("/v1") else route)

    def wire_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers of each request, without those that frame it."""
        own: list[tuple[str, str]] = []
        if self.dialect != "http":
            own.append(("content-type", "application/json"))
        if self.dialect == "anthropic":
            own.append(("anthropic-version", "2023-06-01"))
        if self.key:
            own.append(
                ("x-api-key", self.key)
                if self.dialect == "anthropic"
                else ("authorization", f"Bearer {self.key}")
            )
        named = {name.lower() for name, _ in self.headers}
        chosen = [pair for pair in own if pair[0] not in named]
        return tuple(
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in (*chosen, *self.headers)
        )

    def check_allowed(self, hosts: tuple[str, ...]) -> None:
        """Raise `ConfigurationError` unless the host is loopback or one of `hosts`."""
        host = self.host
        if is_loopback(host) or host in hosts:
            return
        raise ConfigurationError(
            f"{host or self.url!r} was not named as a target.",
            hint="A load test asks loopback, or hosts that stand in its own command.",
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class CallableTarget(Struct, frozen=True, kw_only=True, eq=False):
    """An async callable of this process.

    It is called with the prompt (`str`) and answers with anything; an async iterator of pieces is read to
    its end as a stream. A raised exception is the error `exception`, `TimeoutError` is `timeout`.
    """

    function: Callable[[str], Awaitable[object]]
    name: str = ""
