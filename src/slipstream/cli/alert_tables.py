"""How the answers about alerts look in a terminal: tables for people, tabs for programs."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from msgspec import Struct

from slipstream.core.alerts import Event, Silence
from slipstream.monitoring.admin import understood
from slipstream.monitoring.alerts.backtest import Backtest
from slipstream.monitoring.alerts.evaluator import RuleView
from slipstream.monitoring.conditions.units import duration

_STYLES = {"firing": "bold red", "pending": "yellow", "resolved": "green", "inactive": "dim"}
EPISODES_SHOWN = 10


class _Overview(Struct):
    rules: list[RuleView]
    silences: list[Silence]
    waiting: int
    dead: int
    failure: str


class _Events(Struct):
    data: list[Event]


class _Message(Struct):
    id: str
    receiver: str
    subject: str
    state: str
    tries: int
    error: str
    created_wall_ns: int


class _Messages(Struct):
    data: list[_Message]


def when(wall_ns: int) -> str:
    """A moment, `-` for none."""
    if not wall_ns:
        return "-"
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def print_rules(said: bytes) -> None:
    """The rules, and how telling goes."""
    found = understood(said, _Overview)
    rows = [
        (_state(rule), rule.name, rule.severity, rule.value or "-", rule.expanded, rule.owner)
        for rule in found.rules
    ]
    headings = ("state", "name", "severity", "now", "condition", "owner")
    _print_table(headings, rows, [rule.phase for rule in found.rules])
    for rule in found.rules:
        if rule.error:
            click.echo(f"{rule.name}: {rule.error}", err=True)
    if not rows:
        click.echo("There are no rules. Write some in the settings: [alerts.rules.NAME]", err=True)
    for silence in found.silences:
        click.echo(_silence(silence), err=True)
    if found.dead or found.waiting:
        click.echo(f"Messages waiting: {found.waiting}; given up: {found.dead} (--messages).", err=True)
    if found.failure:
        click.echo(f"Alerts are not stored: {found.failure}", err=True)


def _state(rule: RuleView) -> str:
    if rule.error:
        return "error"
    state = rule.phase.value if rule.has_data or rule.phase != "inactive" else "no data"
    return f"{state}, silenced" if rule.silenced else state


def _silence(silence: Silence) -> str:
    who = f" by {silence.author}" if silence.author else ""
    why = f": {silence.comment}" if silence.comment else ""
    until = when(silence.expires_wall_ns)
    return f"Silent until {until}{who}, {silence.name}{why} (slipstream alerts silence --end {silence.id})"


def print_events(said: bytes) -> None:
    """What fired and ended."""
    found = understood(said, _Events).data
    rows = [
        (when(each.wall_ns), each.phase.value, each.name, each.severity, each.value or "-", each.condition)
        for each in found
    ]
    headings = ("when", "became", "name", "severity", "value", "condition")
    _print_table(headings, rows, [each.phase for each in found])


def print_messages(said: bytes) -> None:
    """Messages that wait or were given up."""
    found = understood(said, _Messages).data
    rows = [
        (
            {"dead": "given up"}.get(each.state, each.state),
            each.id,
            when(each.created_wall_ns),
            each.receiver,
            str(each.tries),
            each.subject,
            each.error,
        )
        for each in found
    ]
    headings = ("state", "id", "when", "receiver", "tries", "subject", "error")
    _print_table(headings, rows, [{"dead": "firing"}.get(each.state, "pending") for each in found])
    if not rows:
        click.echo("No message waits, and none was given up.", err=True)


def print_backtest(said: bytes) -> None:
    """What a condition would have done."""
    found = understood(said, Backtest)
    click.echo(found.expanded)
    click.echo(found.verdict)
    step = duration(found.step_seconds)
    span = f"{when(found.start_wall_ns)} to {when(found.end_wall_ns)}, every {step}"
    click.echo(f"{found.looks} looks from {span}; {found.no_data} of them without data.", err=True)
    for variant in found.variants:
        lasted = duration(round(variant.firing_seconds))
        click.echo(f"  for {duration(variant.for_seconds)}: {variant.fired} ({lasted} in all)")
    for episode in found.episodes[-EPISODES_SHOWN:]:
        end = when(episode.ended_wall_ns) if episode.ended_wall_ns else "still firing"
        click.echo(f"  {when(episode.started_wall_ns)} - {end}  {episode.value}")


def _print_table(headings: tuple[str, ...], rows: Sequence[Sequence[str]], styles: Sequence[str]) -> None:
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*map(Text, row), style=_STYLES.get(style, ""))  # Text: a name is not markup
    Console().print(table)
