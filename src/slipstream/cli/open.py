"""`slipstream open`: the pages of the running server, by a link that lets a browser in."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from slipstream.cli import load_settings
from slipstream.core.errors import ConfigurationError, UpstreamFailed

if TYPE_CHECKING:
    from slipstream.config.live import LiveServer

_ANSWER_BYTES = 64 * 1024
_CREATED = 201


@click.command(name="open")
@click.option("--server", default="", metavar="URL", help="Live server to use, by URL or process id.")
@click.option("--print", "is_printed", is_flag=True, help="Print the link and open no browser.")
def open_command(*, server: str, is_printed: bool) -> None:
    """Open the pages of the running server.

    Where the server asks for keys, the link works once and lets the browser in for a week. The link goes
    to standard output where that is no terminal, or no browser is there.
    """
    from slipstream.config.live import find_live

    found = find_live(load_settings(), server=server or None)
    if found is None:
        raise ConfigurationError("No server is running here.", hint="Start one with `slipstream serve`.")
    link = asyncio.run(_link(found))
    if is_printed or not sys.stdout.isatty() or click.launch(link) != 0:
        click.echo(link)
    else:
        click.echo("Opened in the browser. `slipstream open --print` shows the link instead.", err=True)


async def _link(server: "LiveServer") -> str:
    """Ask the server for a link, as the user it runs as. Raises `UpstreamFailed`."""
    import msgspec

    from slipstream.net.client import HttpClient

    client = HttpClient(server.url)
    authorization = b"Bearer " + server.token.encode()
    try:
        response = await client.request(
            "POST", "/_slipstream/links", ((b"authorization", authorization),), b""
        )
        try:
            body = await response.read(_ANSWER_BYTES)
        finally:
            response.close()
        if response.status != _CREATED:
            raise UpstreamFailed(
                f"The server at {server.url} gave no link (status {response.status}).",
                hint="It may be of an older version: start it again.",
            )
        return str(msgspec.json.decode(body, type=dict[str, str])["url"])
    finally:
        await client.aclose()
