"""The doctor's ledger for a terminal: each fix that was done, predicted beside actual; scores by class."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slipstream.doctor.doctor import Doctor
from slipstream.doctor.ledger import JUDGED_MIN, Ledger, Score
from slipstream.store.ledger import Entry

ROWS = ("before", "expected", "without", "actual")
"""Recorded, predicted with the fix; met without it and with it by the load that verified it."""

_COLOURS = {
    "kept": "green",
    "rolled back": "yellow",
    "applied": "cyan",
    "applying": "cyan",
    "interrupted": "yellow",
}


def show_stored(*, server: str, as_json: bool) -> None:
    """Print the live server's ledger, or the one it has left. Raises `StoreFailed`."""
    found = Doctor(server=server).ledger()
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        show(found, Console())


def show_recovered(*, server: str, as_json: bool) -> None:
    """Take back what was interrupted and say so. Raises `ConfigurationError`, `StoreFailed`."""
    found = recovered(server)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for entry in found:
        click.echo(f"{entry.setting} = {entry.after}: {entry.note}")
    if not found:
        click.echo("No fix was interrupted: there is nothing to take back.")


def recovered(server: str) -> list[Entry]:
    """What was interrupted here, or with a live server (all, or the one named), is taken back.

    Also where the settings file is wrong. Raises `ConfigurationError`, `StoreFailed`.
    """
    from slipstream.config.live import find_live, live_servers
    from slipstream.config.load import load_folders
    from slipstream.doctor.recover import recover

    settings = load_folders()
    named = find_live(settings, server=server) if server else None
    return recover(settings, [named] if named is not None else live_servers(settings))


def show(found: Ledger, console: Console) -> None:
    """Print a ledger: newest first, then how right each class was."""
    if found.entries:
        console.print(_entries(found.entries))
    if found.scores:
        console.print(_scores(found.scores))
    console.print(escape(found.said), highlight=False)


def _entries(entries: Sequence[Entry]) -> Table:
    has_cost = any(each is not None for entry in entries for each in _costs(entry))
    table = Table(box=None, header_style="dim", padding=(0, 2, 1, 0))
    table.add_column("when", no_wrap=True)
    table.add_column("fix", overflow="fold")
    table.add_column("", style="dim", no_wrap=True)
    for title in ("p95 s", "p95 change", "answers/s", *(("$/request",) if has_cost else ())):
        table.add_column(title, justify="right", no_wrap=True)
    for entry in entries:
        gains = (
            "",
            _change(entry.predicted_gain, entry.gain_low, entry.gain_high),
            "",
            _change(entry.actual_gain, entry.actual_low, entry.actual_high),
        )
        p95s = (entry.now_p95, entry.predicted_p95, entry.without_p95, entry.actual_p95)
        rates = (
            entry.now_throughput,
            entry.predicted_throughput,
            entry.without_throughput,
            entry.actual_throughput,
        )
        cells = [_lines(p95s, ".2f"), "\n".join(gains), _lines(rates, ".2f")]
        if has_cost:
            cells.append(_lines(_costs(entry), ".2g"))
        table.add_row(_when(entry), _fix(entry), "\n".join(ROWS), *cells)
    return table


def _costs(entry: Entry) -> tuple[float | None, ...]:
    return entry.now_cost, entry.predicted_cost, entry.without_cost, entry.actual_cost


def _when(entry: Entry) -> str:
    at = datetime.fromtimestamp(entry.wall_ns / 1e9, UTC).astimezone()
    return f"{at:%d %b %H:%M}\n[{_COLOURS[entry.state]}]{entry.state}[/]"


def _fix(entry: Entry) -> str:
    setting = f"\n[cyan]{escape(entry.setting)}[/]\n{escape(entry.before)} → {escape(entry.after)}"
    note = f"\n[dim]{escape(entry.note)}[/]" if entry.note else ""
    return f"{escape(entry.kind)} {escape(entry.subject)}{setting}{note}"


def _lines(values: Sequence[float | None], form: str) -> str:
    return "\n".join("–" if value is None else format(value, form) for value in values)


def _change(gain: float | None, low: float | None, high: float | None) -> str:
    """A gain as what becomes of the p95, as everywhere: less is better."""
    if gain is None:
        return "–"
    spread = f" ({-high:+.0%} to {-low:+.0%})" if low is not None and high is not None else ""
    return f"{-gain:+.0%}{spread}"


def _scores(scores: Sequence[Score]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("class")
    for title in ("verified", "right", "median error", "in interval"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for each in scores:
        mark = "[bold red]BAD RECORD[/]" if each.is_bad else ""
        if each.count < JUDGED_MIN:
            mark = "[dim]too few to judge[/]"
        shares = (f"{share:.0%}" for share in (each.hits, each.error, each.coverage))
        table.add_row(each.kind, str(each.count), *shares, mark)
    return table
