"""`slipstream models`: which models can be asked for, and in what state they are."""

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slipstream.wiring import ModelInfo

COLOURS = {
    "ready": "green",
    "installed": "green",
    "loading": "yellow",
    "not installed": "yellow",
    "being tried": "yellow",
    "held": "yellow",
    "failed": "red",
    "open": "red",
    "ejected": "red",
}


@click.command()
@click.option("--server", default="", metavar="URL", help="Live server to use, by URL or process id.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def models(*, server: str, as_json: bool) -> None:
    """List the models of the running server, or those that this machine would serve."""
    from slipstream.library import list_models

    found = list_models(server)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif not found:
        click.echo("No model is configured. `slipstream pull` fetches the embedded one.")
    elif sys.stdout.isatty():
        _table(found)
    else:
        for model in found:
            default = "default" if model.default else ""
            click.echo("\t".join((model.name, model.backend, model.state, default, model.alias_of)))


def _table(found: "list[ModelInfo]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    for title in ("model", "backend", "state", ""):
        table.add_column(title)
    for model in found:
        notes = ("default" if model.default else "", f"alias of {model.alias_of}" if model.alias_of else "")
        note = ", ".join(filter(None, notes))
        colour = COLOURS.get(model.state, "default")
        table.add_row(escape(model.name), model.backend, f"[{colour}]{model.state}[/]", escape(note))
    Console().print(table)
