"""What `load`, `stress` and `replay` are told alike: the target, and how signals end them."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from slipstream.testing.load.target import Target

Answer = TypeVar("Answer")
Decorated = TypeVar("Decorated", bound=Callable[..., object])

DIALECTS = ("openai_chat", "openai_completions", "anthropic", "http")


def time_option(name: str, *, default: str, help: str) -> Callable[[Decorated], Decorated]:  # noqa: A002
    """An option that takes a length of time: 30s, 5m, 1.5 (seconds)."""
    return click.option(
        name, default=default, show_default=True, metavar="TIME", callback=_seconds, help=help
    )


def _seconds(_: click.Context, parameter: click.Parameter, value: str) -> float:
    from slipstream.core.errors import BadRequest
    from slipstream.testing.load.quantity import seconds

    try:
        return seconds(value)
    except BadRequest as error:
        raise click.BadParameter(str(error), param=parameter) from None


def file_option(name: str, *, help: str) -> Callable[[Decorated], Decorated]:  # noqa: A002
    """An option that names a file to write; that it can be is looked at before anything runs."""
    return click.option(
        name, type=click.Path(path_type=Path, dir_okay=False), callback=_writable, metavar="FILE", help=help
    )


def _writable(_: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and not os.access(value if value.exists() else value.parent, os.W_OK):
        raise click.BadParameter(f"{value} cannot be written.", param=parameter)
    return value


def target_options(command: Decorated) -> Decorated:
    """Whom to ask and how."""
    for decorator in reversed(
        (
            click.option("--dialect", type=click.Choice(DIALECTS), default=DIALECTS[0], show_default=True,
                         help="What the target speaks; http = any request."),
            click.option("--ca-file", metavar="FILE", default="",
                         help="PEM file of the authority to trust, of https targets."),
            click.option("--key-env", metavar="NAME", help="Environment variable that holds the API key."),
            click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="One more header."),
            click.option("--method", default="POST", show_default=True, help="Of --dialect http."),
            click.option("--model", default="", help="Model to ask for."),
        )
    ):  # fmt: skip
        command = decorator(command)
    return command


def request_options(command: Decorated) -> Decorated:
    """What requests are made of."""
    for decorator in reversed(
        (
            click.option("--prompt-tokens", type=click.IntRange(1), help="Length of made-up prompts."),
            click.option("--prompt-spread", type=click.FloatRange(0), default=0.0,
                         help="Its standard deviation, in tokens: lengths are log-normal then."),
            click.option("--output-tokens", type=click.IntRange(1), help="Longest answer that is asked for."),
            click.option("--output-spread", type=click.FloatRange(0), default=0.0,
                         help="Its standard deviation, in tokens."),
            click.option("--shared-prefix", type=click.IntRange(0), default=0, metavar="TOKENS",
                         help="So long a beginning is the same in all prompts of the run."),
            click.option("--turns", type=click.IntRange(1), default=1, show_default=True,
                         help="Of a user's session; each sends all before it again."),
            click.option("--cached", is_flag=True,
                         help="Send a few prompts again and again, so that caches may answer."),
            click.option("--distinct", type=click.IntRange(1), default=10, show_default=True,
                         help="With --cached: how many prompts."),
            click.option("--body", default="", callback=_text_or_file, metavar="TEXT|@FILE",
                         help="The body of each request of --dialect http."),
            time_option("--timeout", default="60s", help="Longest a request may take."),
            click.option("--slo", multiple=True, metavar="BOUND",
                         help="What a good request keeps: ttft<500ms, response<2s; repeatable."),
        )
    ):  # fmt: skip
        command = decorator(command)
    return command


def _text_or_file(_: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{value[1:]} cannot be read: {error}", param=parameter) from None


class Wire(NamedTuple):
    """How a target is spoken to."""

    dialect: str = DIALECTS[0]
    key_env: str | None = None
    headers: tuple[str, ...] = ()
    method: str = "POST"
    ca_file: str = ""


def wire_of(given: dict[str, object]) -> Wire:
    """What `target_options` were given, taken out of a command's options."""
    return Wire(**{name: given.pop(name) for name in Wire._fields})  # type: ignore[arg-type]  # click made them


def target_of(url: str | None, *, model: str, streaming: bool, wire: Wire) -> "Target | str | None":
    """The target of a command; None = the live server. Raises `click.UsageError`."""
    if url is None:
        if wire != Wire():
            raise click.UsageError("--dialect, --key-env, --header, --method and --ca-file need a URL.")
        return model or None
    from slipstream.testing.load.target import Target

    key = ""
    if wire.key_env:
        key = os.environ.get(wire.key_env, "")
        if not key:
            raise click.UsageError(f"The environment variable {wire.key_env} is not set.")
    pairs = []
    for header in wire.headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"`{header}` is no header; write NAME:VALUE.")
        pairs.append((name.strip(), value.strip()))
    return Target(
        url=url if "://" in url else f"http://{url}",
        dialect=_dialect(wire.dialect),
        model=model,
        key=key,
        headers=tuple(pairs),
        streaming=streaming,
        method=wire.method,
        ca_file=wire.ca_file,
    )


def _dialect(name: str) -> Any:  # one of the Literal's names: click has checked it
    return name


def run_until_stopped(work: Callable[[asyncio.Event], Coroutine[Any, Any, Answer]]) -> Answer:
    """Run with an event that Ctrl-C or SIGTERM sets; a second one ends it at once (`click.Abort`)."""

    async def main() -> Answer:
        stop = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def told() -> None:
            if stop.is_set():
                task.cancel()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, told)
        return await work(stop)

    from slipstream.testing.simulator import run_loop

    try:
        with run_loop() as runner:
            return runner.run(main())
    except asyncio.CancelledError:
        raise click.Abort from None
