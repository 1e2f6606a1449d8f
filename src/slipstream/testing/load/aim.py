"""What `LoadTester(target)` is given, made into a target: the live server, a URL, a model, a callable."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from slipstream.config.live import LiveServer, find_live, live_servers
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.config import LoadConfig
from slipstream.testing.load.target import CallableTarget, Target


@runtime_checkable
class Generates(Protocol):
    """A model of ours: `slipstream.model`, or anything that answers as it does."""

    async def generate(self, prompt: str) -> str:
        """The whole answer."""
        ...

    def generate_stream(self, prompt: str) -> AsyncIterator[str]:
        """The answer piece by piece."""
        ...


Aimable = None | str | Target | CallableTarget | Generates | Callable[[str], Awaitable[object]]


class Aim(Struct, frozen=True):
    """Whom a test asks, and the live server behind it where it is one of ours."""

    target: Target | CallableTarget
    shown: str
    hosts: tuple[str, ...] = ()
    server: LiveServer | None = None


def aim(given: Aimable, config: LoadConfig, settings: Settings) -> Aim:
    """The target of a test.

    Args:
        given: None = the live server; a base URL; the name of a model there; a target; a model of ours; an
            async callable that takes a prompt.
        config: says which model is asked for, and whether answers are streamed.
        settings: whose live server.

    Raises `ConfigurationError` where there is nobody to ask.
    """
    if given is None or (isinstance(given, str) and "://" not in given):
        return _live(given or config.model, config, settings)
    _check(given, config)
    if isinstance(given, str):
        given = Target(url=given, model=config.model, streaming=config.stream)
    if isinstance(given, Target):
        server = _of_ours(given, settings)
        if server is not None and not given.key:
            given = msgspec.structs.replace(given, key=server.token)
        return Aim(given, without_password(given.url), (given.host,), server)
    if isinstance(given, CallableTarget):
        return Aim(given, given.name or "a callable")
    if isinstance(given, Generates):
        return Aim(CallableTarget(function=_asked(given, config), name=repr(given)), repr(given))
    if callable(given):
        name = getattr(given, "__qualname__", repr(given))
        return Aim(CallableTarget(function=given, name=name), name)
    raise ConfigurationError(
        f"{type(given).__name__} is nothing that can be asked.",
        hint="Give a URL, the name of a model, a model, or an async function that takes a prompt.",
    )


def _check(given: Aimable, config: LoadConfig) -> None:
    """Refuse what a target of that kind cannot be asked for."""
    dialect = given.dialect if isinstance(given, Target) else "openai_chat"
    is_http = dialect == "http"
    if config.body and not is_http:
        raise ConfigurationError(
            f"A body was given, and the dialect {dialect} makes its own.",
            hint="Give a prompt instead, or the dialect `http`.",
        )
    if is_http and (config.prompt or config.turns > 1):
        raise ConfigurationError(
            "The dialect `http` knows no prompts and no turns.", hint="Give the whole body (--body)."
        )
    if config.turns > 1 and not isinstance(given, str | Target):
        raise ConfigurationError(
            "A function is asked one prompt at a time and holds no sessions.", hint="Leave `turns` out."
        )


def without_password(url: str) -> str:
    """A URL as it may be shown and stored: user, password and query taken out."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _asked(model: Generates, config: LoadConfig) -> Callable[[str], Awaitable[object]]:
    """How a model is asked: for an answer piece by piece, or for the whole of it."""

    async def stream(prompt: str) -> object:
        return model.generate_stream(prompt)

    return stream if config.stream else model.generate


def _live(model: str, config: LoadConfig, settings: Settings) -> Aim:
    server = find_live(settings)
    if server is None:
        raise ConfigurationError(
            "No server is live to be tested.",
            hint="Start one with `slipstream serve`, or name a target such as http://127.0.0.1:8000.",
        )
    target = Target(url=server.url.rstrip("/"), model=model, key=server.token, streaming=config.stream)
    return Aim(target, server.url, (target.host,), server)


def _of_ours(target: Target, settings: Settings) -> LiveServer | None:
    """The live server of this machine that a URL names; nobody else is sent its token."""
    asked = urlsplit(target.url)
    for server in live_servers(settings):
        own = urlsplit(server.url)
        if own.port == asked.port and asked.hostname in {own.hostname, "localhost"}:
            return server
    return None
