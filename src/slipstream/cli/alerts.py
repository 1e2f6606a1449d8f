"""`slipstream alerts`: see rules, try conditions on now and on the past, keep rules silent, export them.

Talks to the live server; only `test` of a condition works, in part, without one.
"""

from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from slipstream.config.live import LiveServer

T = TypeVar("T")

_server = click.option("--server", default="", help="URL or process id, where several servers live.")
_json = click.option("--json", "as_json", is_flag=True, help="As the server's JSON.")


@click.group(name="alerts")
def alerts() -> None:
    """See, try and silence alert rules."""


@alerts.command(name="list")
@_server
@_json
@click.option("--history", is_flag=True, help="What fired and ended, newest first, instead of the rules.")
@click.option("--messages", is_flag=True, help="Messages that wait or were given up, and why.")
def list_alerts(*, server: str, as_json: bool, history: bool, messages: bool) -> None:
    """List the rules: those that fire first."""
    if history and messages:
        raise click.UsageError("Choose --history or --messages.", click.get_current_context())
    said = _messages(server) if messages else ask_server(server, "GET", "alerts" + "/history" * history)
    if as_json:
        _print_json(said)
        return
    from slipstream.cli import alert_tables

    if history:
        alert_tables.print_events(said)
    elif messages:
        alert_tables.print_messages(said)
    else:
        alert_tables.print_rules(said)


@alerts.command()
@click.argument("condition", required=False)
@click.option("--receiver", default="", help="Send a test message to this receiver instead.")
@_server
@_json
def test(*, condition: str | None, receiver: str, server: str, as_json: bool) -> None:
    """Say what CONDITION means, and what it says now.

    slipstream alerts test 'p99(response_time, 5m) > 2 s and error_rate > 1%'
    """
    if bool(condition) is bool(receiver):
        raise click.UsageError("Give either a CONDITION or --receiver.", click.get_current_context())
    if receiver:
        ask_server(server, "POST", "alerts/test", {"receiver": receiver})
        click.echo(f"{receiver} took the test message.", err=True)
        return
    assert condition is not None
    if _live(server) is None:
        from slipstream.cli import load_settings
        from slipstream.monitoring.conditions.program import compiled

        click.echo(compiled(condition, load_settings().slo).expanded)
        click.echo("No server is live that could say whether it fires.", err=True)
        return
    said = ask_server(server, "POST", "alerts/test", {"condition": condition})
    if as_json:
        _print_json(said)
        return
    from slipstream.monitoring.conditions.program import Tested

    found = _understood(said, Tested)
    click.echo(found.expanded)
    answer = {True: "It fires now", False: "It does not fire now", None: "There is no data to say so now"}
    click.echo(answer[found.fires] + (f": {found.value}." if found.value else "."))


@alerts.command()
@click.argument("condition")
@click.option("--last", default="1d", show_default=True, help="How far back: 30m, 6h, 7d.")
@_server
@_json
def backtest(*, condition: str, last: str, server: str, as_json: bool) -> None:
    """Replay CONDITION on the stored past.

    Says how often it would have fired, and how often with another `for`.

    slipstream alerts backtest 'response_time > 5000' --last 7d
    """
    body = {"condition": condition, "start": -_seconds(last, "--last")}
    said = ask_server(server, "POST", "alerts/backtest", body)
    if as_json:
        _print_json(said)
        return
    from slipstream.cli import alert_tables

    alert_tables.print_backtest(said)


@alerts.command()
@click.argument("name", required=False)
@click.option("--for", "lasts", default="1h", show_default=True, help="How long: 30m, 6h, 7d.")
@click.option("--comment", default="", help="Why.")
@click.option("--severity", type=click.Choice(["info", "warning", "critical"]), help="Only of this severity.")
@click.option("--end", default="", metavar="ID", help="End this silence instead.")
@_server
def silence(
    *, name: str | None, lasts: str, comment: str, severity: str | None, end: str, server: str
) -> None:
    """Keep the rules named NAME silent for a while.

    They are watched, and nobody is told. `*` and `?` match as in file names.

    slipstream alerts silence 'High*' --for 2h --comment 'load test'
    """
    if bool(name) is bool(end):
        raise click.UsageError("Give either a NAME or --end.", click.get_current_context())
    if end:
        ask_server(server, "DELETE", f"alerts/silences/{_escaped(end)}")
        click.echo(f"Ended the silence {end}.", err=True)
        return
    body = {
        "name": name,
        "seconds": _seconds(lasts, "--for"),
        "comment": comment,
        "severity": severity,
        "author": author(),
    }
    from slipstream.cli.alert_tables import when
    from slipstream.core.alerts import Silence

    kept = _understood(ask_server(server, "POST", "alerts/silences", body), Silence)
    click.echo(f"Silent until {when(kept.expires_wall_ns)}. End it with: --end {kept.id}", err=True)


@alerts.command()
@_server
def export(*, server: str) -> None:
    """Print the rules for Prometheus, as YAML."""
    click.echo(ask_server(server, "GET", "alerts/export").decode(), nl=False)


def _messages(server: str) -> bytes:
    """Those that wait, then those that were given up, as one answer."""
    import msgspec

    rows: list[msgspec.Raw] = []
    for state in ("waiting", "dead"):
        said = ask_server(server, "GET", f"alerts/messages?state={state}")
        rows += msgspec.json.decode(said, type=dict[str, list[msgspec.Raw]])["data"]
    return msgspec.json.encode({"data": rows})


def ask_server(server: str, method: str, path: str, body: object = None) -> bytes:
    """What the live server answers. Raises `SlipstreamError`, also where none lives."""
    import asyncio

    from slipstream.core.errors import ConfigurationError
    from slipstream.monitoring.admin import request

    live = _live(server)
    if live is None:
        raise ConfigurationError("No server is live.", hint="Start one with `slipstream serve`.")
    return asyncio.run(request(live, method, path, body))


def _live(server: str) -> "LiveServer | None":
    from slipstream.cli import load_settings
    from slipstream.config.live import find_live

    return find_live(load_settings(), server=server or None)


def _understood(said: bytes, kind: type[T]) -> T:
    from slipstream.monitoring.admin import understood

    return understood(said, kind)


def _seconds(text: str, option: str) -> float:
    from slipstream.monitoring.conditions.mistakes import ConditionError
    from slipstream.monitoring.conditions.stream import Stream

    try:
        stream = Stream(text)
        seconds = stream.duration()
        stream.expect_end()
    except ConditionError as error:
        raise click.BadParameter(f"{error.what} Write it like 30m, 6h or 7d.", param_hint=option) from None
    return float(seconds)


def author() -> str:
    """Who sits here, as far as the system knows."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _escaped(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _print_json(said: bytes) -> None:
    import msgspec

    click.echo(msgspec.json.format(said, indent=2).decode())
