"""`slipstream config`: show, explain and write the settings."""

from pathlib import Path

import click
import msgspec

from slipstream.cli import load_origins
from slipstream.config import template
from slipstream.config.explain import Explained, explain
from slipstream.config.load import FILE_NAME
from slipstream.core.errors import ConfigurationError


@click.group()
def config() -> None:
    """Show, explain or write the settings."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(*, as_json: bool) -> None:
    """The settings that hold, as a slipstream.toml. Credentials inside URLs are masked."""
    loaded = load_origins()
    text = template.effective(loaded.settings)
    click.echo(_json_of_toml(text) if as_json else text, nl=as_json)


@config.command("explain")
@click.argument("name", required=False, metavar="[SECTION.KEY]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def explain_command(name: str | None, *, as_json: bool) -> None:
    """Every setting with its value and where it came from; or those of one section, or one."""
    chosen = explain(load_origins(), only=name)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(chosen), indent=2).decode())
    elif not chosen:  # a table of the user's own names, or `explain` had refused the name
        click.echo(f"{name} has no entries.")
    elif len(chosen) == 1:
        _print_one(chosen[0])
    else:
        _print_table(chosen)


@config.command()
@click.option("--force", is_flag=True, help="Overwrite the file that is there.")
@click.argument("path", required=False, type=click.Path(path_type=Path, dir_okay=False))
def init(path: Path | None, *, force: bool) -> None:
    """Write a commented slipstream.toml that holds every setting at its default."""
    file = path or Path(FILE_NAME)
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(template.commented())
    except FileExistsError:
        raise ConfigurationError(f"{file} is there already.", hint="Overwrite it with --force.") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be written ({error.strerror}).") from None
    click.echo(f"Wrote {file}. Look at what holds with: slipstream config explain")


def _print_table(chosen: list[Explained]) -> None:
    rows = [(each.name, _value(each), each.spot) for each in chosen]
    wide = [min(60, max((len(row[column]) for row in rows), default=0)) for column in (0, 1)]
    for name, value, spot in rows:
        line = f"{name:<{wide[0]}}  {value:<{wide[1]}}  {spot}"
        click.echo(click.style(line, dim=True) if spot == "default" else line)


def _print_one(setting: Explained) -> None:
    click.echo(f"{setting.name} = {_value(setting)}")
    click.echo(f"  from:    {setting.spot}")
    if setting.source != "default" and setting.default is not None:
        click.echo(f"  default: {template.toml_value(setting.default)}")
    click.echo(f"  may be:  {setting.allowed}")
    click.echo(f"  {setting.description}")


def _value(setting: Explained) -> str:
    return template.toml_value(setting.value)


def _json_of_toml(text: str) -> str:
    return msgspec.json.format(msgspec.json.encode(msgspec.toml.decode(text)), indent=2).decode()
