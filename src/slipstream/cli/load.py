"""`slipstream load`: a load test whose numbers can be trusted; compare, selftest, stored results."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipstream.cli.implied_run import Group
from slipstream.cli.load_compare import compare, selftest
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

    from slipstream.testing.load.result import LoadResult
    from slipstream.testing.load.target import Target

FAILED = 1
DEFAULT_USERS = 10


@click.group(cls=Group, name="load", short_help="Test how a server does under load.")
def load() -> None:
    """Test how a server does under load: `slipstream load [URL] [OPTIONS]`.

    \b
    slipstream load http://127.0.0.1:8080 --users 20 --duration 30s
    slipstream load --rate 50 --ramp-up 10s --duration 1m --fail-if "p95 > 800ms"

    Without a URL the live server of these settings is asked. All options: `slipstream load run --help`.
    """


@load.command()
@click.argument("url", required=False)
@click.option("--users", "concurrent_users", type=click.IntRange(1),
              help=f"Concurrent users; {DEFAULT_USERS} where there is no --rate.")  # fmt: skip
@click.option("--rate", "requests_per_second", type=click.FloatRange(min=0, min_open=True),
              help="Requests per second: an open loop.")  # fmt: skip
@time_option("--duration", default="30s", help="How long.")
@time_option("--ramp-up", default="0s", help="Part of it in which users or rate grow.")
@time_option("--warm-up", default="0s", help="Part of it that is left out of every figure.")
@click.option("--requests", "max_requests", type=click.IntRange(1), help="End after so many.")
@click.option("--arrivals", type=click.Choice(("constant", "poisson", "gamma")), default="constant",
              show_default=True, help="When requests of a rate are due.")  # fmt: skip
@click.option("--burstiness", type=click.FloatRange(min=0, min_open=True), default=1.0,
              help="Shape of gamma arrivals; less than 1 is burstier than Poisson.")  # fmt: skip
@time_option("--think-time", default="0s", help="Pause of a user after each answer.")
@click.option("--prompt", default="", help="What to send; else made-up prompts.")
@click.option("--stream/--no-stream", default=True, show_default=True, help="Whether answers are streamed.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the arrivals and prompts.")
@request_options
@target_options
@click.option("--fail-if", multiple=True, metavar="THRESHOLD",
              help='Exit with 1 if so: "p95 > 800ms", "error_rate > 1%"; repeatable.')  # fmt: skip
@click.option("--compat", type=click.Choice(("vllm", "aiperf", "guidellm")),
              help="Also tell the run as that tool defines its figures.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@file_option("--csv", help="A row for each request.")
@file_option("--html", help="A page with plots.")
@click.option("--quiet", is_flag=True, help="Do not show how it goes.")
def run(
    *,
    url: str | None,
    fail_if: tuple[str, ...],
    compat: str | None,
    as_json: bool,
    csv: Path | None,
    html: Path | None,
    quiet: bool,
    **config: object,
) -> int:
    """Run a load test against URL, or the live server.

    With --users each user sends, waits for the answer and sends again. With --rate requests are due at
    their times whatever the server does, and response times count from then; --users then bounds how many
    are in flight. Ctrl-C ends it and shows what there is. The exit code is 1 if a threshold is broken
    or nothing was answered.
    """
    from slipstream.testing.load.require import require_numpy

    require_numpy()
    from slipstream.testing.load.thresholds import thresholds

    thresholds(fail_if)  # a mistake in them is told before the test, not after
    model, stream = str(config["model"]), bool(config["stream"])
    target = target_of(url, model=model, streaming=stream, wire=wire_of(config))
    if config["concurrent_users"] is None and config["requests_per_second"] is None:
        config["concurrent_users"] = DEFAULT_USERS
    result = played(target, config, quiet=quiet)
    write_files(result, csv=csv, html=html)
    return told(result, fail_if, compat=compat, as_json=as_json)


def played(target: "Target | str | None", config: dict[str, object], *, quiet: bool) -> "LoadResult":
    """Run a test with its view; Ctrl-C ends it with what there is."""
    from slipstream.cli.load_view import watching
    from slipstream.testing.load.tester import LoadTester

    tester = LoadTester(target)

    async def work(stop: "asyncio.Event") -> "LoadResult":
        with watching(quiet=quiet) as watch:
            return await tester.run_test(config, watch=watch, stop=stop)

    return run_until_stopped(work)


def write_files(result: "LoadResult", *, csv: Path | None, html: Path | None) -> None:
    """Write the files that were asked for."""
    from slipstream.testing.load.export import write, write_csv
    from slipstream.testing.load.report_html import page

    if csv is not None:
        write_csv(result, csv)
    if html is not None:
        write(html, page(result))


def told(result: "LoadResult", fail_if: tuple[str, ...], *, compat: str | None, as_json: bool) -> int:
    """Print a result; the exit code."""
    from slipstream.cli.load_view import show, show_outcomes, show_rows
    from slipstream.testing.load.definitions import told_as
    from slipstream.testing.load.export import as_json as encoded

    outcomes = result.check(fail_if)
    if as_json:
        click.echo(encoded(result))
    else:
        show(result)
    if compat is not None and result.samples is not None:
        show_rows(compat, told_as(compat, result.samples), to_error=as_json)
    if outcomes and not result.valid:
        click.echo("FAIL: the result is invalid, so that the thresholds cannot be judged.", err=True)
        return FAILED
    show_outcomes(outcomes)
    nothing = result.summary.counts.measured > 0 and result.successful_requests == 0
    return FAILED if nothing or any(each.fails for each in outcomes) else 0


@load.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_results(*, as_json: bool) -> None:
    """List the stored results, the newest first."""
    from slipstream.cli import load_settings
    from slipstream.cli.load_view import show_list
    from slipstream.testing.load.require import require_numpy

    require_numpy()
    from slipstream.testing.load.results import stored

    found = stored(load_settings())
    if not found and not as_json:
        click.echo("No results are stored. Make one with: slipstream load URL", err=True)
        return
    show_list(found, as_json=as_json)


@load.command()
@click.argument("name", default="last")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@file_option("--html", help="A page with plots.")
@click.option("--fail-if", multiple=True, metavar="THRESHOLD", help="Exit with 1 if so; repeatable.")
def show(*, name: str, as_json: bool, html: Path | None, fail_if: tuple[str, ...]) -> int:
    """Show a stored result by NAME: its id or the beginning of it, `last`, or an exported JSON file."""
    from slipstream.cli import load_settings
    from slipstream.testing.load.require import require_numpy

    require_numpy()
    from slipstream.testing.load.results import find

    result = find(name, load_settings())
    write_files(result, csv=None, html=html)
    return told(result, fail_if, compat=None, as_json=as_json)


load.add_command(compare)
load.add_command(selftest)
