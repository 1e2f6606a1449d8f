"""`slipstream profile`: where a running server's time and memory go, without a restart."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from slipstream.cli import load_settings

if TYPE_CHECKING:
    from slipstream.config.live import LiveServer

T = TypeVar("T")
BAR_WIDTH = 30
EXTRA_SECONDS = 30.0
"""For the answer, on top of the time that is looked."""
READ_SECONDS = 60.0
"""For allocations on top of that: they are read from a file."""


def length(option: str, unit: str, most: float) -> Callable[[object], float]:
    """Reads a length of time: a number above nothing, up to `most`. Neither `nan` nor `inf` is one."""

    def number(value: object) -> float:
        try:
            found = float(str(value))
        except ValueError:
            found = float("nan")
        if not 0 < found <= most:  # neither is `nan`
            raise click.BadParameter(
                f"'{value}' is no length of time. Give a number of {unit} above 0 and up to {most:,.0f}, "
                f"such as `{option} 10`."
            )
        return found

    return number


server_option = click.option(
    "--server", default="", metavar="URL", help="Live server to use, by URL or process id."
)
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")
seconds_option = click.option(
    "--seconds",
    type=length("--seconds", "seconds", 3_600),
    default=10.0,
    show_default=True,
    help="How long.",
)
speedscope_option = click.option(
    "--speedscope", type=click.Path(path_type=Path, dir_okay=False), help="Write a file for speedscope."
)
collapsed_option = click.option(
    "--collapsed", type=click.Path(path_type=Path, dir_okay=False), help="Write collapsed stacks."
)

chrome_option = click.option(
    "--chrome", type=click.Path(path_type=Path, dir_okay=False), help="Write a trace for Chrome and Perfetto."
)
otlp_option = click.option(
    "--otlp", type=click.Path(path_type=Path, dir_okay=False), help="Write OTLP/JSON for a collector."
)


@click.group(name="profile", short_help="Show where a running server's time and memory go.")
def profile() -> None:
    """Show where a running server's time and memory go, without a restart.

    \b
    slipstream profile cpu --seconds 10       stacks of every worker and the supervisor
    slipstream profile memory                 size, trend, growth by line, leak suspects
    slipstream profile steps --minutes 15     steps of recorded requests, and what makes slow ones slow
    slipstream profile request ID             the waterfall of one request
    slipstream profile stalls                 what held an event loop up
    slipstream profile use                    how full each resource and part is
    """


@profile.command()
@seconds_option
@server_option
@json_option
@speedscope_option
@collapsed_option
def cpu(
    *, seconds: float, server: str, as_json: bool, speedscope: Path | None, collapsed: Path | None
) -> None:
    """Sample the stacks of every process of the server for some seconds, weighted by their CPU time."""
    from slipstream.cli.profile_view import process_lines, told, whole

    body = _profile(server, "cpu", seconds)
    if as_json:
        click.echo(body)
        return
    found = told(body)
    seen = whole(found)
    click.echo(str(seen))
    click.echo("\n".join(process_lines(found)))
    _say_failures((each.process, each.error) for each in found.processes)
    _write(speedscope, seen.to_speedscope)  # last: what was seen is told also where no file can be written
    _write(collapsed, lambda: seen.to_collapsed().encode())


@profile.command()
@seconds_option
@click.option(
    "--by",
    type=click.Choice(["memray", "memray-objects", "tracemalloc"]),
    help="What takes allocations down. memray (where installed): cheap, small objects by the 1 MB.  "
    "memray-objects: every object, several times slower.  tracemalloc: slowest, needs nothing installed.",
)
@server_option
@json_option
def memory(*, seconds: float, by: str | None, server: str, as_json: bool) -> None:
    """Take down the allocations of every process for some seconds: growth by line, and leak suspects.

    What that cost is told.
    """
    from slipstream.cli.profile_view import told

    body = _profile(server, "memory", seconds, by=by)
    if as_json:
        click.echo(body)
        return
    found = told(body)
    for each in found.processes:
        if each.memory is not None:
            click.secho(f"{each.process} (pid {each.pid})", bold=True)
            click.echo(str(each.memory))
    _say_failures((each.process, each.error) for each in found.processes)


@profile.command()
@click.option("--minutes", type=length("--minutes", "minutes", 527_040), default=15.0, show_default=True,
              help="Of how long a time up to now.")  # fmt: skip
@click.option("--model", default="", help="Only requests to this model.")
@server_option
@json_option
def steps(*, minutes: float, model: str, server: str, as_json: bool) -> None:
    """Tell what recorded requests spent their time on, and which step makes slow ones slow."""
    import urllib.parse

    from slipstream.cli.profile_view import steps_table
    from slipstream.core import clock
    from slipstream.profiling.recorded import StepsReport

    query = urllib.parse.urlencode({"from": clock.wall_ns() / 1e9 - 60 * minutes, "model": model})
    body = _ask(_found(server), "GET", f"steps?{query}")
    click.echo(body if as_json else steps_table(_understood(body, StepsReport)))


@profile.command()
@click.argument("request_id", metavar="ID")
@server_option
@json_option
@speedscope_option
@collapsed_option
@chrome_option
@otlp_option
def request(
    *,
    request_id: str,
    server: str,
    as_json: bool,
    speedscope: Path | None,
    collapsed: Path | None,
    chrome: Path | None,
    otlp: Path | None,
) -> None:
    """Draw the waterfall of a recorded request: every step where its time lies."""
    import urllib.parse

    from slipstream.cli.profile_view import request_text
    from slipstream.core.record import record_from_json
    from slipstream.profiling.exports import to_chrome_trace, to_collapsed, to_otlp, to_speedscope
    from slipstream.profiling.recorded import trace_of

    body = _ask(_found(server), "GET", f"requests/{urllib.parse.quote(request_id, safe='')}")
    if as_json:
        click.echo(body)
        return
    record = record_from_json(body)
    trace = trace_of(record)
    click.echo(request_text(record, trace))
    _write(speedscope, lambda: to_speedscope([trace], record.id))
    _write(collapsed, lambda: to_collapsed([trace]).encode())
    _write(chrome, lambda: to_chrome_trace([trace]))
    _write(otlp, lambda: to_otlp([trace]))


@profile.command()
@server_option
@json_option
def stalls(*, server: str, as_json: bool) -> None:
    """List what held an event loop up: the line, the request, and how many others waited."""
    from slipstream.cli.profile_view import stall_lines
    from slipstream.server.profile_desk import StallList

    body = _ask(_found(server), "GET", "stalls")
    click.echo(body if as_json else "\n".join(stall_lines(_understood(body, StallList))))


@profile.command()
@server_option
@json_option
def use(*, server: str, as_json: bool) -> None:
    """Show utilisation, saturation and errors of every resource and every part of the server."""
    from slipstream.profiling.resources import use_lines
    from slipstream.server.profile_desk import UseList

    body = _ask(_found(server), "GET", "use")
    click.echo(body if as_json else "\n".join(use_lines(_understood(body, UseList).rows)))


def _profile(server: str, what: str, seconds: float, *, by: str | None = None) -> bytes:
    found = _found(server)
    asked = {"what": what, "seconds": seconds, "by": by}
    extra = EXTRA_SECONDS + (READ_SECONDS if what == "memory" else 0)
    with _progress(f"{what} profile", seconds):
        return _ask(found, "POST", "profile", asked, seconds=seconds + extra)


def _found(server: str) -> "LiveServer":
    from slipstream.config.live import find_live
    from slipstream.core.errors import ConfigurationError

    found = find_live(load_settings(), server=server or None)
    if found is None:
        raise ConfigurationError("No server is alive here.", hint="Start one with `slipstream serve`.")
    return found


def _ask(
    server: "LiveServer", method: str, path: str, body: object = None, *, seconds: float = EXTRA_SECONDS
) -> bytes:
    from slipstream.monitoring import admin

    return asyncio.run(admin.request(server, method, path, body, seconds=seconds))


def _understood(body: bytes, kind: type[T]) -> T:
    from slipstream.monitoring import admin

    return admin.understood(body, kind)


@contextlib.contextmanager
def _progress(what: str, seconds: float) -> Iterator[None]:
    """A bar on standard error that fills while the server looks at itself; only on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    import threading

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    over = threading.Event()
    columns = (TextColumn(what), BarColumn(BAR_WIDTH), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=seconds)

        def fill() -> None:
            while not over.wait(0.1):
                bar.advance(task, 0.1)

        filling = threading.Thread(target=fill, daemon=True)
        filling.start()
        try:
            yield
        finally:
            over.set()
            filling.join()


def _write(path: Path | None, made: Callable[[], bytes]) -> None:
    from slipstream.core.errors import ConfigurationError

    if path is None:
        return
    try:
        path.write_bytes(made())
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.",
            hint="Name a file in a folder that you may write to.",
        ) from None
    click.echo(f"Written: {path}", err=True)


def _say_failures(told: "Iterator[tuple[str, str]]") -> None:
    for process, error in told:
        if error:
            click.echo(f"{process}: {error}", err=True)
