"""`slipstream version`: what a report of a fault needs to say. Nothing is imported to find out."""

import platform
import re
from collections.abc import Iterator
from importlib import metadata

import click
import msgspec
from msgspec import Struct

_REQUIREMENT = re.compile(r"""([A-Za-z0-9._-]+)[^;]*(?:;.*extra\s*==\s*['"]([^'"]+)['"])?""")


class Versions(Struct, frozen=True):
    """Versions of what runs here."""

    slipstream: str
    python: str
    implementation: str
    platform: str
    machine: str
    packages: dict[str, str]
    """What is always installed."""
    extras: dict[str, dict[str, str | None]]
    """By extra, what it needs; None = not installed."""


def versions() -> Versions:
    """Look up all versions in the installed packages' metadata."""
    packages: dict[str, str] = {}
    extras: dict[str, dict[str, str | None]] = {}
    for name, extra in _requirements():
        version = installed(name)
        if extra:
            extras.setdefault(extra, {})[name] = version
        elif version is not None:
            packages[name] = version
    return Versions(
        slipstream=installed("slipstream") or "not installed",
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        platform=platform.platform(),
        machine=platform.machine(),
        packages=packages,
        extras=extras,
    )


def installed(package: str) -> str | None:
    """The version of an installed package, None if it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def version(*, as_json: bool) -> None:
    """Show the versions of everything that matters here."""
    found = versions()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    click.echo(f"slipstream {found.slipstream}")
    click.echo(f"{found.implementation} {found.python} on {found.platform} ({found.machine})")
    click.echo(", ".join(f"{name} {number}" for name, number in found.packages.items()))
    for extra, needed in found.extras.items():
        missing = [name for name, number in needed.items() if number is None]
        if missing:
            click.echo(f'[{extra}] not installed; get it with: pip install "slipstream[{extra}]"')
        else:
            click.echo(f"[{extra}] " + ", ".join(f"{name} {number}" for name, number in needed.items()))


def _requirements() -> Iterator[tuple[str, str]]:
    """Name and extra of all that our own metadata asks for; extras made of extras are left out."""
    try:
        lines = metadata.requires("slipstream") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        found = _REQUIREMENT.match(line)
        if found is not None and found[1] != "slipstream":
            yield found[1], found[2] or ""
