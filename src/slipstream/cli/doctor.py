"""`slipstream doctor`: say what is slow, with evidence, and what would help; do that, and see."""

import asyncio
import contextlib
import functools
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from slipstream.cli.profile import length

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from slipstream.doctor.verify import By
    from slipstream.testing.floor import Told
    from slipstream.testing.floor_report import FloorReport, Target

MEANINGS = {
    "admit": "key and limits",
    "read": "the request's top-level fields",
    "select": "which model answers",
    "open": "sent upstream, its head parsed; its own time taken off",
    "first_byte": "the first piece of the body",
    "relay": "the answer passed on and observed",
    "between steps": "tasks started and woken inside the request",
    "around the record": "HTTP parsed and written, the client's side of the wire",
}
"""What each part of the gateway's time is, for people."""

SECONDS_BY = {"replay": 60.0, "live": 300.0}
"""How long a fix is verified unless it is said; live traffic comes when it comes."""

FLOOR_SECONDS_MIN = 0.5

WORKS = {"number": "--apply", "recover": "--recover", "asks_ledger": "--ledger", "floor": "--floor"}
"""What is asked for; one of them at a time."""

OF_APPLY = {"verify_seconds": "--verify", "verify_by": "--verify-by", "expect": "--expect"}

_NAMES = {"direct": "upstream alone", "floor": "bare proxy", "gateway": "Slipstream"}


def _seconds_or_none(value: object) -> float:
    """Zero means that it is not done."""
    with contextlib.suppress(ValueError):
        if float(str(value)) == 0:
            return 0.0
    return length("--verify", "seconds", 3_600)(value)


def _floor_seconds(value: object) -> float:
    found = length("--seconds", "seconds", 60)(value)
    if found < FLOOR_SECONDS_MIN:
        raise click.BadParameter(f"With less than {FLOOR_SECONDS_MIN} seconds a target tells nothing.")
    return found


@click.command()
@click.option("--since", default="1h", show_default=True, help="How far back to look, such as 15m.")
@click.option("--apply", "number", type=click.IntRange(1), metavar="N", help="Do what cause N advises.")
@click.option(
    "--verify",
    "verify_seconds",
    type=_seconds_or_none,
    default=None,
    metavar="SECONDS",
    help="Seconds to hold the fix against what was before (60, live 300); 0 = do not verify.",
)
@click.option(
    "--verify-by",
    type=click.Choice(["replay", "live"]),
    default="replay",
    show_default=True,
    help="Made-up requests as they were recorded, or the traffic that is served anyway.",
)
@click.option("--server", default="", metavar="URL", help="Live server to use, by URL or process id.")
@click.option(
    "--expect", default="", metavar="SETTING[=VALUE]", help="With --apply: do nothing if N advises another."
)
@click.option("--recover", is_flag=True, help="Take back a fix whose process was killed while it was tried.")
@click.option("--ledger", "asks_ledger", is_flag=True, help="Show what was advised, and what came of it.")
@click.option("--floor", is_flag=True, help="Measure this host's bare-proxy floor and the gateway above it.")
@click.option(
    "--seconds",
    type=_floor_seconds,
    default=3.0,
    metavar="SECONDS",
    show_default=True,
    help="How long each target is driven.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def doctor(
    *,
    since: str,
    number: int | None,
    verify_seconds: float | None,
    verify_by: "By",
    server: str,
    expect: str,
    recover: bool,
    asks_ledger: bool,
    floor: bool,
    seconds: float,
    as_json: bool,
) -> None:
    """Say what is slow, with evidence, and what would help.

    Looks at the recorded requests of the running server (or of the last one), and predicts what a fix
    would bring by replaying them through the gateway's own code.

    --apply: changes the one setting in slipstream.toml (the file before stays beside it), has the server
    take it while it serves, and sends it made-up requests of the recorded lengths, with and without the
    fix in turn. What does not help is taken back. These requests reach your upstreams and cost what they
    cost there.

    --verify-by live: sends nothing. The traffic that is served anyway meets the fix in every other stretch
    of the time, and what it met is compared. Takes as long as it takes 60 requests and more to come.

    --recover: a fix that was tried by a process that was killed may still be in force; this takes it back,
    and leaves what somebody has changed since. --apply does so first by itself, and so does a server that
    starts.

    --ledger: shows each fix that was done, as predicted and as it came, and how right each class of advice
    was.

    --floor: puts a bare proxy, and then the gateway with default settings, in front of the same mock
    upstream on loopback; says how far above the bare proxy the gateway is and which step takes the rest.
    A running server, its settings and records are not touched.
    """
    _check_alone(click.get_current_context())
    if asks_ledger or recover:
        from slipstream.cli import doctor_ledger

        told = doctor_ledger.show_recovered if recover else doctor_ledger.show_stored
        told(server=server, as_json=as_json)
    elif floor:
        _show_floor(seconds, as_json=as_json)
    else:
        how = (verify_by, SECONDS_BY[verify_by] if verify_seconds is None else verify_seconds)
        _diagnose(since, number, how, server=server, expect=expect, as_json=as_json)


def _check_alone(context: click.Context) -> None:
    """Refuse what cannot be asked for at once, and what would be passed over."""
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    works = [option for name, option in WORKS.items() if name in given]
    if len(works) > 1:
        raise click.UsageError(f"{' and '.join(works)} are asked for one at a time.", context)
    idle = [option for name, option in OF_APPLY.items() if name in given]
    if idle and "number" not in given:
        raise click.UsageError(f"{idle[0]} says how a fix is applied: give --apply N too.", context)


def _show_floor(seconds: float, *, as_json: bool) -> None:
    found = _measured(seconds)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    from rich.console import Console

    show(found, Console())


def _diagnose(
    since: str, number: int | None, how: "tuple[By, float]", *, server: str, expect: str, as_json: bool
) -> None:
    import msgspec
    from rich.console import Console

    from slipstream.cli import doctor_ledger, doctor_report
    from slipstream.doctor.apply import apply, expected
    from slipstream.doctor.doctor import Doctor

    asked = Doctor(server=server)
    console = Console(stderr=as_json)
    told = _told_beside if as_json else functools.partial(console.print, markup=False, highlight=False)
    if number is not None:
        for entry in doctor_ledger.recovered(server):
            told(entry.note)
    elif left := asked.interrupted():
        told(left)
    if as_json:
        told(f"reading what was recorded in the last {since}")
    evidence = asked.evidence(since)
    if as_json:
        told(f"judging {len(evidence.flows):,} requests, and replaying them with what would help")
    found = asked.judge(evidence)
    if number is None:
        if as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        else:
            doctor_report.show(found, console)
        return
    if expect:
        expected(found, number, expect)
    done = apply(asked, evidence, found, number, by=how[0], seconds=how[1], told=told)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(done), indent=2).decode())
    elif done is not None:
        doctor_report.show_verified(done, console)


def _told_beside(line: str) -> None:
    """How far it is, for whoever reads standard error beside the JSON."""
    click.echo(line, err=True)


def show(found: "FloorReport", console: "Console") -> None:
    """Print a report for people."""
    console.print(_targets(found))
    console.print()
    console.print(headline(found), highlight=False)
    console.print()
    console.print(_parts(found))
    for doubt in found.doubts:
        console.print(f"[yellow]caution:[/] {doubt}", highlight=False)


def headline(found: "FloorReport") -> str:
    """How far above the floor the gateway is, and what takes most of it."""
    if found.times_floor is None:
        return "The floor is lost in noise: measure again when the machine is quiet."
    floor, gateway = found.floor.loaded, found.gateway.loaded
    said = (
        f"Slipstream takes {found.gateway_own_us:.0f} us of its own for a request where a bare proxy takes"
        f" {found.floor_own_us:.0f} us: {found.times_floor:.1f}x above the floor."
    )
    if found.times_floor_cpu is not None and gateway.cpu_us_per_request and floor.cpu_us_per_request:
        said += (
            f" With {gateway.connections} at a time it takes {gateway.cpu_us_per_request:.0f} us of CPU"
            f" where the bare proxy takes {floor.cpu_us_per_request:.0f} us ({found.times_floor_cpu:.1f}x)"
            f" and serves {found.rate_share:.0%} as many requests."
        )
    if found.parts:
        most = max(found.parts, key=lambda part: part.us)
        said += f" Most of its time, {most.share:.0%}, goes to `{most.name}`: {_meaning(most.name)}."
    return said


def _meaning(part: str) -> str:
    return MEANINGS.get(part, "a step of the way")


def _targets(found: "FloorReport") -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    table.add_column("")
    few, many = found.direct.alone.connections, found.direct.loaded.connections
    titles = (f"{few} conn\np50 us", "\np99 us", "\nown us", f"{many} conn\nreq/s", "\nCPU us", "\nx floor")
    for title in titles:
        table.add_column(title, justify="right")
    owns = {"floor": found.floor_own_us, "gateway": found.gateway_own_us}
    for target in (found.direct, found.floor, found.gateway):
        table.add_row(_NAMES[target.name], *_cells(target, owns.get(target.name), found.floor_own_us))
    return table


def _cells(target: "Target", own_us: float | None, floor_us: float) -> tuple[str, ...]:
    cpu = target.loaded.cpu_us_per_request
    return (
        f"{target.alone.p50_us:.0f}",
        f"{target.alone.p99_us:.0f}",
        "" if own_us is None else f"{own_us:.0f}",
        f"{target.loaded.requests_per_second:,.0f}",
        "" if cpu is None else f"{cpu:.0f}",
        "" if own_us is None or floor_us <= 0 else f"{own_us / floor_us:.1f}",
    )


def _parts(found: "FloorReport") -> "Table":
    from rich.table import Table

    title = f"{found.records:,} requests, one at a time"
    table = Table(box=None, header_style="dim", title=title, title_style="dim", title_justify="left")
    table.add_column("step", no_wrap=True)
    table.add_column("us", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    table.add_column("what it is")
    for part in found.parts:
        bar = f"[cyan]{'█' * round(part.share * 20)}[/]"
        table.add_row(part.name, f"{part.us:.1f}", f"{part.share:.0%}", bar, f"[dim]{_meaning(part.name)}[/]")
    return table


def _measured(seconds: float) -> "FloorReport":
    """Measure with a progress bar. A termination ends it as Ctrl-C does: nothing is left running."""
    from slipstream.testing.floor import measure
    from slipstream.testing.simulator import run_loop

    async def ended_by_signals(told: "Told") -> "FloorReport":
        task = asyncio.current_task()
        assert task is not None
        for each in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(each, task.cancel)
        return await measure(seconds, told)

    with _progress() as told, run_loop() as runner:
        try:
            return runner.run(ended_by_signals(told))
        except asyncio.CancelledError:
            raise click.Abort from None


@contextmanager
def _progress() -> "Iterator[Told]":
    """A bar on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _what, _share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=1.0)
        yield lambda what, share: progress.update(bar, description=what, completed=share)
