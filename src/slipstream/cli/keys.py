"""`slipstream keys`: make, list and revoke the API keys of this machine's data folder."""

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slipstream.store.keys import KeyStore, StoredKey


@click.group(name="keys")
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command()
@click.argument("name")
@click.option("--tenant", default="default", show_default=True, help="Whose requests these are.")
@click.option("--admin", "role", flag_value="admin", default="user", help="May also use the admin routes.")
def create(name: str, tenant: str, role: str) -> None:
    """Make a key named NAME and show its secret, once.

    The secret alone goes to standard output: KEY=$(slipstream keys create ci)
    """
    with _store() as store:
        entry, secret = store.create(name, tenant=tenant, role="admin" if role == "admin" else "user")
    click.echo(f"Made the {entry.role} key {name!r} ({entry.id}) of tenant {tenant!r}.", err=True)
    click.echo("This is its secret. It is shown only now: nothing here can show it again.", err=True)
    click.echo("Send it as `Authorization: Bearer`, or paste it into the chat page.", err=True)
    click.echo(secret)


@keys.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="As JSON, times in nanoseconds since 1970.")
def list_keys(as_json: bool) -> None:
    """List every key, revoked ones too; no secret and no digest is shown."""
    import msgspec

    with _store() as store:
        found = store.list()
    if as_json:
        click.echo(json.dumps([msgspec.structs.asdict(key) for key in found], indent=2))
    elif not found:
        click.echo("There are no keys. Make one with: slipstream keys create NAME", err=True)
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        for key in found:
            click.echo("\t".join(_cells(key)))


@keys.command()
@click.argument("key", metavar="ID")
def revoke(key: str) -> None:
    """Revoke a key by its ID, or an active one by its name."""
    with _store() as store:
        revoked = store.revoke(key)
    click.echo(f"Revoked {revoked.name!r} ({revoked.id}). Servers refuse it within a second.", err=True)


@contextlib.contextmanager
def _store() -> "Iterator[KeyStore]":
    from slipstream.config.load import load
    from slipstream.config.paths import keys_path
    from slipstream.store.keys import KeyStore

    store = KeyStore(keys_path(load()))
    try:
        yield store
    finally:
        store.close()


_HEADINGS = ("id", "name", "tenant", "role", "created", "revoked")


def _cells(key: "StoredKey") -> tuple[str, ...]:
    return key.id, key.name, key.tenant, key.role, _when(key.created_wall_ns), _when(key.revoked_wall_ns)


def _when(wall_ns: int | None) -> str:
    if wall_ns is None:
        return "-"
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print_table(found: "list[StoredKey]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_HEADINGS, box=None, pad_edge=False, header_style="bold")
    for key in found:
        style = "dim" if key.revoked_wall_ns is not None else ""
        table.add_row(*map(Text, _cells(key)), style=style)  # Text: a name is not markup
    Console().print(table)
