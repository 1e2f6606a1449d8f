"""`slipstream top`: what a live server does now, in the terminal, once a second."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from slipstream.cli import load_settings

if TYPE_CHECKING:
    from slipstream.config.live import LiveServer
    from slipstream.core.record import Record

SLOW_SHOWN = 5
SLOW_EVERY = 3
"""Seconds between two looks at the slowest requests."""
EVENT_BYTES_MAX = 1024 * 1024


@click.command()
@click.option("--server", default="", metavar="URL", help="Live server to use, by URL or process id.")
@click.option("--json", "as_json", is_flag=True, help="One frame a line, as JSON.")
@click.option("--frames", type=click.IntRange(1), help="End after so many seconds.")
def top(*, server: str, as_json: bool, frames: int | None) -> None:
    """Show what a running server does, once a second: rates, percentiles, models, slow requests.

    q or Ctrl-C ends it. Where the output is no terminal it is a plain line a second.
    """
    from slipstream.config.live import find_live
    from slipstream.core.errors import ConfigurationError

    found = find_live(load_settings(), server=server or None)
    if found is None:
        raise ConfigurationError("No server is alive here.", hint="Start one with `slipstream serve`.")
    show = _print_json if as_json else _draw if sys.stdout.isatty() else _print_lines
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_ended_by_key(show(found, frames), drawn=show is _draw))


async def _print_json(server: "LiveServer", frames: int | None) -> None:
    async with contextlib.aclosing(_frames(server, frames)) as told:
        async for body in told:
            click.echo(body)


async def _print_lines(server: "LiveServer", frames: int | None) -> None:
    import msgspec

    from slipstream.cli.top_view import line
    from slipstream.dashboard.frame import Frame

    async with contextlib.aclosing(_frames(server, frames)) as told:
        async for body in told:
            click.echo(line(msgspec.json.decode(body, type=Frame)))


async def _draw(server: "LiveServer", frames: int | None) -> None:
    import msgspec
    from rich.console import Console
    from rich.live import Live

    from slipstream.cli import top_view
    from slipstream.dashboard.frame import Frame

    history, seen = top_view.History(), 0
    slow: Sequence[Record] = []
    async with contextlib.aclosing(_frames(server, frames)) as told:
        with Live(console=Console(), screen=True, auto_refresh=False) as live:
            async for body in told:
                frame = msgspec.json.decode(body, type=Frame)
                for name, (_, value, _unit) in top_view.told(frame).items():
                    history.add(name, value)
                if seen % SLOW_EVERY == 0:
                    slow = await _slowest(server, frame.at)
                seen += 1
                live.update(top_view.screen(frame, slow, history, server.url), refresh=True)


async def _frames(server: "LiveServer", most: int | None) -> AsyncGenerator[bytes, None]:
    """The frames as the server sends them. Raises `SlipstreamError` where it refuses or leaves."""
    from slipstream.core.errors import Unavailable
    from slipstream.net.client import ClientOptions, HttpClient
    from slipstream.net.sse import EventSplitter, data_of

    client = HttpClient(server.url, ClientOptions(connections=1))
    splitter, told = EventSplitter(EVENT_BYTES_MAX), 0
    try:
        response = await client.request("GET", "/_slipstream/dashboard/live", _key(server))
        try:
            if response.status != 200:
                raise Unavailable(f"The server at {server.url} answered {response.status}.")
            async for piece in response:
                for event in splitter.feed(piece.data):
                    body = data_of(event)
                    if body:
                        yield body
                        told += 1
                    if told == most:
                        return
        finally:
            response.close()
    finally:
        await client.aclose()
    raise Unavailable("The server has ended.")


async def _slowest(server: "LiveServer", now: int) -> "Sequence[Record]":
    import msgspec

    from slipstream.core.errors import SlipstreamError
    from slipstream.core.record import record_from_json
    from slipstream.monitoring import admin

    try:
        body = await admin.request(server, "GET", f"dashboard/requests?limit=200&from={now - 60}")
    except SlipstreamError:
        return []  # the frames tell whether the server is there
    rows = msgspec.json.decode(body, type=dict[str, list[msgspec.Raw]])["data"]
    found = [record_from_json(bytes(row)) for row in rows]
    return sorted(found, key=lambda record: -record.duration_ns)[:SLOW_SHOWN]


def _key(server: "LiveServer") -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + server.token.encode())]


async def _ended_by_key(work: Coroutine[None, None, None], *, drawn: bool) -> None:
    """Run `work` until it is done, or until q is pressed where something is drawn, or a signal comes."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        loop.add_signal_handler(signal.SIGINT, task.cancel)
    with contextlib.ExitStack() as stack:
        if drawn and sys.stdin.isatty():
            stack.enter_context(_keys(task))
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def _keys(task: "asyncio.Task[None]") -> Iterator[None]:
    """Keys as they are pressed; q cancels the task."""
    try:
        import termios
        import tty
    except ImportError:  # no such terminals here: Ctrl-C ends it
        yield
        return
    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed() -> None:
        if sys.stdin.read(1) in {"q", "Q", ""}:
            task.cancel()

    tty.setcbreak(terminal)
    loop.add_reader(terminal, pressed)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
