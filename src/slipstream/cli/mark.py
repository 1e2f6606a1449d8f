"""`slipstream mark`: set a mark, such as a deploy, that charts and reports show."""

import click

from slipstream.cli.alerts import ask_server, author


@click.command()
@click.argument("text")
@click.option(
    "--kind",
    type=click.Choice(["deploy", "config", "note"]),
    default="deploy",
    show_default=True,
    help="What it marks.",
)
@click.option("--server", default="", help="URL or process id, where several servers live.")
def mark(*, text: str, kind: str, server: str) -> None:
    """Mark this moment with TEXT in the live server's charts.

    slipstream mark "chat 2.4 is out"
    """
    ask_server(server, "POST", "marks", {"text": text, "kind": kind, "author": author()})
    click.echo(f"Marked: {text}", err=True)
