"""`slipstream load compare` and `selftest`: two targets in turn, and the client against known answers."""

from typing import TYPE_CHECKING

import click

from slipstream.cli.load_options import (
    request_options,
    run_until_stopped,
    target_of,
    target_options,
    time_option,
    wire_of,
)

if TYPE_CHECKING:
    import asyncio

    from slipstream.testing.load.compare import Comparison
    from slipstream.testing.load.selftest import SelfTestReport

CODES = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}
"""Exit codes of the verdicts; 2 is a misused command."""
SELFTEST_CODES = {"passed": 0, "failed": 1, "undecided": 3}
DEFAULT_USERS = 4


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--figure", default="p50", show_default=True, help="What is compared: p50, p95, ttft.p50, ...")
@click.option("--tolerance", type=click.FloatRange(0, 10), default=0.1, show_default=True,
              help="Share by which B may be worse.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(3, 200), default=7, show_default=True,
              help="Each measures both, in alternating order.")  # fmt: skip
@time_option("--round", default="5s", help="Of one target in one round.")
@click.option("--users", type=click.IntRange(1), help=f"Concurrent users; {DEFAULT_USERS} without --rate.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Requests per second.")
@request_options
@target_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def compare(
    *,
    a: str,
    b: str,
    figure: str,
    tolerance: float,
    rounds: int,
    users: int | None,
    rate: float | None,
    as_json: bool,
    **given: object,
) -> int:
    """Say whether B is slower than A: both URLs are measured in turn with the same load.

    FAIL (exit code 1) where the whole 90 % interval of the ratio is beyond the tolerance, PASS (0) where
    none of it is, INCONCLUSIVE (3) else: more rounds narrow it.
    """
    from slipstream.testing.load.require import require_numpy

    require_numpy()
    from slipstream.testing.load.compare import CompareOptions, figure_name
    from slipstream.testing.load.compare import compare as compared
    from slipstream.testing.load.config import read_config

    figure_name(figure)
    model, seconds = str(given["model"]), given.pop("round")
    assert isinstance(seconds, float)
    config = read_config(
        {**given, "requests_per_second": rate, "concurrent_users": users if users or rate else DEFAULT_USERS}
    )
    options = CompareOptions(figure=figure, tolerance=tolerance, rounds=rounds, round_seconds=seconds)
    wire = wire_of(given)
    targets = [target_of(each, model=model, streaming=True, wire=wire) for each in (a, b)]

    async def work(stop: "asyncio.Event") -> "Comparison":
        return await compared(targets[0], targets[1], config, options, watch=_round, stop=stop)

    found = run_until_stopped(work)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        show(found)
    return CODES[found.verdict]


def _round(number: int, first: float | None, second: float | None) -> None:
    from slipstream.testing.load.stats import shown

    told = ["n/a" if each is None else shown(each) for each in (first, second)]
    click.echo(f"round {number}: A {told[0]}, B {told[1]}", err=True)


def show(found: "Comparison") -> None:
    """Print a comparison for people."""
    for name, side in (("A", found.a), ("B", found.b)):
        errors = side.error_share.value or 0.0
        click.echo(f"{name} {side.target}: {side.requests:,} requests, {errors:.1%} errors")
    if found.found is not None:
        each = found.found
        click.echo(
            f"{each.figure} B/A {each.ratio:.3f} (90 % interval {each.low:.3f} to {each.high:.3f},"
            f" {each.rounds} rounds)"
        )
    if found.time_scale != 1:
        click.echo(f"Times were scaled by {found.time_scale:g}.")
    for caution in found.cautions:
        click.echo(f"caution: {caution}.")
    colour = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}[found.verdict]
    click.echo(f"{click.style(found.verdict, fg=colour, bold=True)}: {found.why}.")


@click.command()
@time_option("--duration", default="10s", help="Of each of the two runs.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def selftest(*, duration: float, as_json: bool) -> int:
    """Measure servers whose answers are known: one that freezes, and a queue with known waiting times.

    Prints how far off load tests on this machine are. The exit code is 1 if they are too far off, and 3
    if the machine was too busy with other work to tell.
    """
    from slipstream.testing.load.require import require_numpy

    require_numpy()
    import msgspec

    from slipstream.testing.load.selftest import selftest as measured

    report = run_until_stopped(lambda _: measured(seconds=duration))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        show_selftest(report)
    return SELFTEST_CODES[report.verdict]


def show_selftest(report: "SelfTestReport") -> None:
    """Print a self-test for people."""
    for oracle in report.oracles:
        click.echo(f"{oracle.name}: {oracle.what}")
        click.echo(
            f"  {oracle.requests:,} requests, {oracle.failed} failed,"
            f" sent late p99 {oracle.lag_ms_p99:.2f} ms"
        )
        for each in oracle.percentiles:
            click.echo(
                f"  p{each.rank:<4g} truth {each.truth_ms:>9.2f} ms  measured {each.measured_ms:>9.2f} ms"
                f"  off by {each.error:.2%}"
            )
    if report.verdict == "undecided":
        why = next(each.disturbed for each in report.oracles if each.verdict == "undecided")
        click.echo(
            f"Self-test {click.style('undecided', fg='yellow')}: this machine was too busy to tell: {why}."
        )
        click.echo("Load tests here measure that other work too. Run it again when the machine is quiet.")
        return
    verdict = {"passed": click.style("passed", fg="green"), "failed": click.style("FAILED", fg="red")}
    click.echo(f"Self-test {verdict[report.verdict]}: percentiles are at most {report.worst:.2%} off.")
