"""`slipstream stress`: find the limit of a server, and what holds it there."""

import sys
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

    from slipstream.testing.load.limit import Limit
    from slipstream.testing.load.search import Probe
    from slipstream.testing.load.stats import Estimate

NOTHING_FOUND = 1


@click.command()
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
def stress(
    *,
    url: str | None,
    as_json: bool,
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
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        show(found)
    return 0 if found.users else NOTHING_FOUND


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


def show(found: "Limit") -> None:
    """Print a limit for people."""
    from slipstream.testing.load.stats import shown

    lines = [f"{found.target}: good = {', '.join(found.objectives)} for {found.wanted_share:.0%} of requests"]
    if found.ceiling is not None and found.knee_users is not None:
        knee = shown(round(found.knee_users, 1))
        lines.append(
            f"Capacity: {_number(found.ceiling)} req/s, reached with {knee} users;"
            f" unloaded an answer takes {_number(found.base_ms)} ms."
        )
    if found.users is None:
        lines.append("Limit: not even one user is served well.")
    elif found.beyond is None:
        lines.append(f"Limit: none up to {found.users} users ({_number(found.throughput)} req/s).")
    else:
        lines.append(
            f"Limit: {found.users} users are served well ({_number(found.throughput)} req/s),"
            f" {found.beyond} are too many."
        )
    lines.append(f"Saturated: {found.resource}.")
    if found.law is not None:
        sigma, kappa = _interval(found.law.sigma), _interval(found.law.kappa)
        fit = f"R2 {found.law.r_squared:.2f}"
        lines.append(f"Scalability law: sigma (serialises) {sigma}, kappa (contends) {kappa}, {fit}")
    over = f"passed with {found.error_users} users" if found.error_users else "not passed"
    lines.append(f"Error threshold of {found.error_threshold:g} %: {over}.")
    if found.soak is not None:
        verdict = "confirmed" if found.confirmed else "NOT confirmed"
        lines.append(
            f"Soak with {found.soak.users} users: {verdict}, {_number(found.soak.throughput)} req/s."
        )
    lines += [f"caution: {each}." for each in found.cautions]
    scale = f", times scaled by {found.time_scale:g}" if found.time_scale != 1 else ""
    lines.append(f"{len(found.probes)} probes in {found.seconds:.0f} s{scale}, {found.stopped}.")
    click.echo("\n".join(lines))


def _number(value: float | None) -> str:
    from slipstream.testing.load.stats import shown

    return "n/a" if value is None else shown(value)


def _interval(estimate: "Estimate") -> str:
    value = "n/a" if estimate.value is None else f"{estimate.value:.3g}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({estimate.low:.2g} to {estimate.high:.2g})"
