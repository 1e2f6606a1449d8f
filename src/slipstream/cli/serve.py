"""`slipstream serve`: the server in the foreground, and what to open printed once it serves."""

import asyncio
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from slipstream.cli import load_origins, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slipstream.config.load import Loaded
    from slipstream.config.settings import Settings
    from slipstream.doctor.ledger import Ledger
    from slipstream.server.supervisor import Announcement


@click.command()
@click.option("--host", help="Address to listen on; a public one needs a key.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that serve requests.")
@click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    metavar="URL",
    help="An OpenAI-compatible server, such as http://127.0.0.1:8000/v1; may be given several times.",
)
@click.option("--model", help="Model of requests that name none.")
def serve(
    host: str | None, port: int | None, workers: int | None, upstreams: tuple[str, ...], model: str | None
) -> int:
    """Run the assistant's server: an OpenAI-compatible API and a chat page.

    Without an upstream it answers with the embedded model. Ctrl-C ends it after the running answers,
    a second Ctrl-C at once.
    """
    flags: dict[str, object] = {
        "server.host": host,
        "server.port": port,
        "server.workers": workers,
        "models.default": model,
    }
    for name, url in upstream_names(upstreams).items():
        flags[f'models.upstreams."{name}".url'] = url
    loaded = _loaded(flags)
    settings = loaded.settings

    from slipstream.config.load import FILE_NAME
    from slipstream.config.logs import set_up_logs
    from slipstream.server.renewal import Origin
    from slipstream.server.supervisor import Supervisor

    set_up_logs(settings.log)
    if _took_back(settings):
        loaded = load_origins(flags)
        settings = loaded.settings
    origin = Origin(lambda: load_settings(flags), str((loaded.file or Path(FILE_NAME)).absolute()))
    supervisor = Supervisor(
        settings,
        announce=lambda news: show(news, settings),
        origin=origin,
        ledger=functools.partial(_ledger, settings),
    )
    return asyncio.run(supervisor.run())


def _loaded(flags: "Mapping[str, object]") -> "Loaded":
    """The settings; where they are wrong for a fix of the doctor's that was interrupted, without it."""
    from slipstream.config.load import load_folders
    from slipstream.core.errors import ConfigurationError

    try:
        return load_origins(flags)
    except ConfigurationError:
        if not _took_back(load_folders()):
            raise
        return load_origins(flags)


def _took_back(settings: "Settings") -> bool:
    """Whether a fix was taken out of the settings file that the doctor was trying when all was killed."""
    import contextlib
    import logging

    from slipstream.config.paths import ledger_path
    from slipstream.core.errors import SlipstreamError, StoreFailed
    from slipstream.store.ledger import LedgerStore

    path, log = ledger_path(settings), logging.getLogger("slipstream")
    if not path.is_file():
        return False
    try:
        with contextlib.closing(LedgerStore(path)) as store:
            if not store.unfinished():
                return False
        from slipstream.doctor.recover import recover

        found = recover(settings)
    except StoreFailed as error:  # a server serves without a ledger too
        log.warning("the doctor's ledger cannot be asked", extra={"why": f"{error.message} {error.hint}"})
        return False
    except SlipstreamError as error:
        log.warning(
            "a fix of the doctor's is not taken back", extra={"why": f"{error.message} {error.hint}".strip()}
        )
        return False
    for entry in found:
        log.warning("a fix of the doctor's was interrupted", extra={"fix": entry.setting, "note": entry.note})
    return bool(found)


def _ledger(settings: "Settings") -> "Ledger":
    """The doctor's ledger; its code is loaded when a page first asks for it."""
    from slipstream.config.paths import ledger_path
    from slipstream.doctor.ledger import read

    return read(ledger_path(settings))


def upstream_names(urls: tuple[str, ...]) -> dict[str, str]:
    """Upstreams by name: the host, with its port where one is given. Raises `click.BadParameter`."""
    named: dict[str, str] = {}
    for url in urls:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise click.BadParameter(
                f"{url!r} is not a URL such as http://127.0.0.1:8000/v1.", param_hint="--upstream"
            )
        name = f"{parts.hostname}:{port}" if port else parts.hostname
        if named.setdefault(name, url) != url:
            raise click.BadParameter(f"{name} was given twice.", param_hint="--upstream")
    return named


def show(news: "Announcement", settings: "Settings") -> None:
    """Tell what to open: for people on standard error where it is a terminal, else as an event in the log."""
    if not sys.stderr.isatty():
        import logging

        login = {"login": news.login_url} if news.login_url else {}
        logging.getLogger("slipstream").info("serving", extra={"url": news.url, **login})
        return
    click.echo(banner(news, settings), err=True)


def banner(news: "Announcement", settings: "Settings") -> str:
    """The lines that a person sees when the server is up."""
    key = "$SLIPSTREAM_KEY" if news.key_required else "none"
    rows = [
        ("Chat page", news.login_url or news.url),
        ("Dashboard", f"{news.url}/dashboard"),
        ("API", f"{news.url}/v1   (base_url of any OpenAI client; api_key: {key})"),
    ]
    if news.local is not None:
        rows.append(("Model", f"{settings.models.local.name}, {news.local.state}"))
    rows.extend(("Upstream", f"{name}   {each.url}") for name, each in settings.models.upstreams.items())
    rows.extend(("Simulated", name) for name in settings.models.simulated)
    rows.append(("Try", curl_line(news)))
    heading = click.style("Slipstream is up.", bold=True) + click.style("  Ctrl-C ends it.", dim=True)
    lines = [heading, *(f"  {click.style(f'{label:<10}', fg='cyan')} {text}" for label, text in rows)]
    if news.login_url:
        told = "The link works once; a new one: slipstream open; keys: slipstream keys list"
        lines.append(click.style(f"  {told}", dim=True))
    return "\n".join(("", *lines, ""))


def curl_line(news: "Announcement") -> str:
    """A request to copy. It names no model: the default one answers."""
    authorization = ' -H "authorization: Bearer $SLIPSTREAM_KEY"' if news.key_required else ""
    question = '\'{"stream":true,"messages":[{"role":"user","content":"What is the capital of France?"}]}\''
    return (
        f"curl -N {news.url}/v1/chat/completions{authorization}"
        f" -H 'content-type: application/json' -d {question}"
    )
