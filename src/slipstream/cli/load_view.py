"""What `slipstream load` shows: how a test goes while it runs, and its result, for people."""

import contextlib
import datetime as dt
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from slipstream.testing.load.definitions import Row
    from slipstream.testing.load.result import LoadResult
    from slipstream.testing.load.run import Tick
    from slipstream.testing.load.stats import Estimate
    from slipstream.testing.load.summary import Latency
    from slipstream.testing.load.thresholds import Outcome

ROWS = {
    "response": "response, from when due",
    "service": "service, from when sent",
    "ttft": "to first token",
    "itl": "between tokens (ITL)",
    "gap": "gaps between chunks",
}
PLAIN_EVERY_SECONDS = 5
"""How often a line is written where there is no terminal."""


@contextlib.contextmanager
def watching(*, quiet: bool) -> "Iterator[Callable[[Tick], None]]":
    """How a test goes, on standard error: a view that is redrawn on a terminal, lines elsewhere."""
    if quiet:
        yield lambda _: None
    elif not sys.stderr.isatty():
        yield _lines()
    else:
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:
            yield lambda tick: live.update(_view(tick), refresh=True)


def _lines() -> "Callable[[Tick], None]":
    last = -math.inf

    def line(tick: "Tick") -> None:
        nonlocal last
        seconds = tick.at_ns / 1e9
        if seconds - last >= PLAIN_EVERY_SECONDS - 0.5:
            last = seconds
            click.echo(_line(tick), err=True)

    return line


def _line(tick: "Tick") -> str:
    return (
        f"{tick.at_ns / 1e9:6.0f} s  {tick.sent:,} sent  {tick.done:,} done  {tick.errors:,} errors"
        f"  {tick.done_per_second:,.1f}/s  {tick.in_flight} in flight"
        f"  p50 {_ms(tick.response_ms_p50)}  p99 {_ms(tick.response_ms_p99)}"
    )


def _ms(value: float) -> str:
    from slipstream.testing.load.stats import shown

    return "-" if math.isnan(value) else f"{shown(round(value, 2))} ms"


def _view(tick: "Tick") -> "RenderableType":
    from rich.table import Table

    share = min(1.0, tick.at_ns / tick.duration_ns) if tick.duration_ns else 0.0
    bar = "█" * round(share * 30) + "░" * (30 - round(share * 30))
    table = Table.grid(padding=(0, 2))
    table.add_row(f"[cyan]{bar}[/]", f"{tick.at_ns / 1e9:.0f} of {tick.duration_ns / 1e9:.0f} s")
    table.add_row(
        f"sent [b]{tick.sent:,}[/]  done [b]{tick.done:,}[/]  in flight [b]{tick.in_flight}[/]",
        f"{tick.done_per_second:,.1f} req/s",
    )
    times = f"p50 {_ms(tick.response_ms_p50)}  p99 {_ms(tick.response_ms_p99)}"
    first = f"first token {_ms(tick.ttft_ms_p50)}  sent late {_ms(tick.lag_ms_p99)}"
    table.add_row(times, f"[dim]{first}[/]")
    if tick.errors:
        kinds = "  ".join(f"{kind} {count:,}" for kind, count in tick.error_kinds.items())
        table.add_row(f"[red]{tick.errors:,} errors[/]  {kinds}")
    table.add_row("[dim]Ctrl-C ends it and shows what there is[/]")
    return table


def show(result: "LoadResult") -> None:
    """Print a result for people, on standard output."""
    from rich.markup import escape

    from slipstream.testing.load.report_html import asked

    console = _console()
    summary = result.summary
    console.print(f"[b]{escape(summary.target)}[/]  [dim]{escape(asked(summary))}[/]", highlight=False)
    if not result.valid:
        console.print(f"[b red]INVALID[/]: {escape('; '.join(result.reasons))}.", highlight=False)
    counts, flow = summary.counts, summary.flow
    console.print(
        f"{counts.measured:,} requests, [b]{result.throughput}[/] req/s"
        + (f", good [b]{result.goodput}[/] req/s" if summary.config.slo else "")
        + f", errors [b]{result.error_rate}%[/]"
        + f", in flight {flow.in_flight_mean:.1f} (most {flow.in_flight_max})",
        highlight=False,
    )
    if counts.kinds:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in counts.kinds.items())
        console.print(f"[red]errors:[/] {kinds}", highlight=False)
    if summary.hint:
        console.print(f"[b]{escape(summary.hint)}[/]", highlight=False)
    if counts.ok:
        console.print(_latencies("ms", {ROWS[each]: summary.latencies[each] for each in ROWS}))
    if summary.tokens.output is not None:
        console.print(
            f"{result.figure('output_tokens_per_second')} output tokens/s, {summary.tokens.output:,} in all",
            highlight=False,
        )
    if summary.steps is not None:
        console.print(_latencies(f"ms, {summary.steps.joined} requests by the server", summary.steps.parts))
    for caution in summary.honesty.cautions:
        console.print(f"[yellow]caution:[/] {escape(caution)}.", highlight=False)
    console.print(f"[dim]{escape(_client(result))}[/]", highlight=False)


def _client(result: "LoadResult") -> str:
    from slipstream.testing.load.stats import shown

    found = result.summary.client
    lag = "n/a" if found.lag_p99_ms is None else f"{shown(found.lag_p99_ms)} ms"
    busy = "n/a" if found.cpu_share_max is None else f"{found.cpu_share_max:.0%}"
    little = result.summary.flow.little
    law = "n/a" if little is None else shown(little)
    said = f"client: sent late p99 {lag}, busiest worker {busy}, Little {law}"
    return f"{said}; stored as {result.id}" if result.id else said


def _latencies(title: str, rows: "dict[str, Latency]") -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    table.add_column(title, no_wrap=True)
    names = ("mean", "p50", "p90", "p95", "p99", "p99.9", "max")
    for name in names:
        table.add_column(name, justify="right")
    for name, found in rows.items():
        if found.mean.samples:
            table.add_row(name, *(_cell(found.get(each)) for each in names))
    return table


def _cell(estimate: "Estimate") -> str:
    from slipstream.testing.load.stats import Figure

    figure = Figure(estimate)
    return str(figure) if figure.reliable else "[dim]n/a[/]"


def show_outcomes(outcomes: "Sequence[Outcome]") -> None:
    """Print what became of thresholds, on standard error."""
    signs = {"kept": ("ok", "green"), "broken": ("FAIL", "red"), "unknown": ("FAIL", "yellow")}
    for each in outcomes:
        sign, colour = signs[each.verdict]
        click.echo(f"{click.style(sign, fg=colour)} {each.text}: {each.said}", err=True)


def show_rows(tool: str, rows: "Sequence[Row]", *, to_error: bool) -> None:
    """Print a run as another tool tells it."""
    from slipstream.testing.load.stats import shown

    click.echo(f"As {tool} defines it:", err=to_error)
    for row in rows:
        value = "n/a" if row.value is None else shown(row.value)
        click.echo(f"  {row.name:<40} {value:>12}", err=to_error)


def show_list(results: "Sequence[LoadResult]", *, as_json: bool) -> None:
    """Print stored results, a line each."""
    if as_json:
        import msgspec

        rows = [
            {
                "id": each.id,
                "target": each.summary.target,
                "started_wall_ns": each.summary.started_wall_ns,
                "requests": each.summary.counts.measured,
                "throughput": each.summary.throughput,
                "error_rate": each.summary.error_rate.value,
                "valid": each.valid,
            }
            for each in results
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    for name in ("id", "when", "target", "requests", "req/s", "p50 ms", "p95 ms", "errors %", ""):
        table.add_column(name, justify="left" if name in {"id", "when", "target"} else "right")
    for each in results:
        when = dt.datetime.fromtimestamp(each.summary.started_wall_ns / 1e9, dt.UTC).astimezone()
        figures = (each.throughput, each.p50_response_time, each.p95_response_time, each.error_rate)
        stamp = "" if each.valid else "[red]INVALID[/]"
        count = f"{each.summary.counts.measured:,}"
        target = escape(each.summary.target)
        table.add_row(each.id, f"{when:%Y-%m-%d %H:%M}", target, count, *map(str, figures), stamp)
    _console().print(table)


def _console() -> "Console":
    """Wide enough for every row where nobody watches."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160, soft_wrap=True)
