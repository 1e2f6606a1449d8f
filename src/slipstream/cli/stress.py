"""`slipstream stress`: find the limit of a server, and what holds it there."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipstream.cli.implied_run import Group
from slipstream.cli.load_options import (
    file_option,
    request_options,
    run_until_stopped,
    target_of,
    target_options,
    time_option,
    wire_of,
)

if TYPE_CHECKING:
    import asyncio

    from slipstream.testing.load.limit import Limit
    from slipstream.testing.load.search import Probe

NOTHING_FOUND = 1


@click.group(cls=Group, name="stress", short_help="Find the limit of a server, and what holds it there.")
def stress() -> None:
    """Find the limit of a server, and what holds it there: `slipstream stress [URL] [OPTIONS]`.

    \b
    slipstream stress http://127.0.0.1:8080 --slo "ttft<500ms" --html limit.html
    slipstream stress show last

    Without a URL the live server of these settings is asked. All options: `slipstream stress run --help`.
    """


@stress.command()
@click.argument("url", required=False)
@click.option(
    "--users-max", type=click.IntRange(1), default=1024, show_default=True, help="Never more users."
)
@click.option("--slack", type=click.FloatRange(min=1.01), default=2.5, show_default=True,
              help="Without --slo: response time that is allowed, x that of one user.")  # fmt: skip
@click.option("--share", "wanted_share", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True,
              help="Share of requests that must be good.")  # fmt: skip
@click.option("--error-threshold", type=click.FloatRange(0, 100), default=5.0, show_default=True,
              help="Percent of errors that is told when it is passed.")  # fmt: skip
@click.option("--precision", type=click.FloatRange(0.005, 0.5), default=0.03, show_default=True,
              help="How closely the limit is told, as a share of it.")  # fmt: skip
@time_option("--round", default="10s", help="Longest round of a probe.")
@time_option("--soak", default="20s", help="Time at 0.9 x the limit that has to be good; 0 = none.")
@time_option("--max-time", default="15m", help="The search ends by itself after that.")
@request_options
@target_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@file_option("--html", help="A page with plots.")
def run(
    *,
    url: str | None,
    as_json: bool,
    html: Path | None,
    **given: object,
) -> int:
    """Find the most concurrent users that URL, or the live server, serves well.

    Doubles the users until too many requests are late or fail, closes in on the limit, and soaks at 0.9 x.
    Tells the limit, the knee, the ceiling, and what serialises or contends (Universal Scalability Law).
    Ctrl-C ends it and shows what is known.
    """
    from slipstream.testing.load.require import require_numpy

    require_numpy()
    import msgspec

    from slipstream.testing.load.goodput import objectives
    from slipstream.testing.load.stress import LimitOptions, StressTester

    target = target_of(url, model=str(given["model"]), streaming=True, wire=wire_of(given))
    renamed = {"round": "round_seconds", "soak": "soak_seconds", "max_time": "seconds_max"}
    options = msgspec.convert({renamed.get(name, name): value for name, value in given.items()}, LimitOptions)
    objectives(options.slo)

    async def work(stop: "asyncio.Event") -> "Limit":
        return await StressTester(target).find_limit(options, watch=_told, stop=stop)

    found = run_until_stopped(work)
    _tell(found, as_json=as_json, html=html)
    return 0 if found.users else NOTHING_FOUND


def _tell(found: "Limit", *, as_json: bool, html: Path | None) -> None:
    """Print a limit, and write its page where one was asked for."""
    import msgspec

    from slipstream.testing.load.export import write
    from slipstream.testing.load.limit_html import limit_page
    from slipstream.testing.load.limit_words import in_words

    if html is not None:
        write(html, limit_page(found))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    good = f"good = {', '.join(found.objectives)} for {found.wanted_share:.0%} of requests"
    lines = [f"{found.target}: {good}", *in_words(found)]
    lines += [f"caution: {each}." for each in found.cautions]
    if found.id:
        lines.append(f"stored as {found.id}")
    click.echo("\n".join(lines))


def _told(probe: "Probe") -> None:
    """A line for each probe, on standard error."""
    from slipstream.testing.load.stats import shown

    p95 = "n/a" if probe.response_ms_p95 is None else shown(probe.response_ms_p95)
    share = probe.good / probe.count if probe.count else 0.0
    colour = {"good": "green", "bad": "red", "undecided": "yellow"}[probe.verdict]
    stamp = click.style("  client was the bottleneck", fg="yellow") if probe.invalid else ""
    click.echo(
        f"{probe.users:>6} users  {shown(probe.throughput):>8} req/s  p95 {p95:>8} ms  {share:>6.1%} good  "
        + click.style(probe.verdict, fg=colour)
        + stamp,
        err=True,
        color=None if sys.stderr.isatty() else False,
    )


@stress.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_limits(*, as_json: bool) -> None:
    """List the stored searches, the newest first."""
    from slipstream.cli import load_settings
    from slipstream.testing.load.require import require_numpy

    require_numpy()
    import msgspec

    from slipstream.testing.load.limit_results import stored
    from slipstream.testing.load.limit_words import number

    found = stored(load_settings())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    elif not found:
        click.echo("No searches are stored. Make one with: slipstream stress URL", err=True)
    else:
        for each in found:
            limit = "no limit" if each.beyond is None and each.users else f"{each.users or 0} users"
            click.echo(f"{each.id}  {limit:>10}  {number(each.throughput):>8} req/s  {each.target}")


@stress.command()
@click.argument("name", default="last")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@file_option("--html", help="A page with plots.")
def show(*, name: str, as_json: bool, html: Path | None) -> None:
    """Show a stored search by NAME: its id or the beginning of it, `last`, or an exported JSON file."""
    from slipstream.cli import load_settings
    from slipstream.testing.load.require import require_numpy

    require_numpy()
    from slipstream.testing.load.limit_results import find

    _tell(find(name, load_settings()), as_json=as_json, html=html)
