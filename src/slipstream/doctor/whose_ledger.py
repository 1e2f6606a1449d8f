"""Which ledger is meant: that of the live server, in its data folder, wherever whoever asks has theirs."""

import contextlib
from pathlib import Path

import psutil
from msgspec.structs import replace

from slipstream.config import paths
from slipstream.config.live import LiveServer, find_live
from slipstream.config.load import load_folders
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.core.portal import PORTAL
from slipstream.monitoring import admin
from slipstream.server.renewal import DoctorView

ASK_SECONDS = 30.0


def ledger_meant(named: str, settings: Settings | None) -> Path:
    """The ledger of the live server called `named`, or of the one that is meant; else the one of our own.

    Also where the settings file is wrong. Raises `ConfigurationError` where no server is called so.
    """
    own = settings or load_folders()
    server = None
    try:
        server = find_live(own, server=named or None)
    except ConfigurationError:
        if named:
            raise
    return (ledger_of(server) if server is not None else None) or paths.ledger_path(own)


def ledger_of(server: LiveServer) -> Path | None:
    """The ledger of a live server; None where it does not say."""
    with contextlib.suppress(SlipstreamError, TimeoutError):
        said = PORTAL.call(admin.request(server, "GET", "doctor"), timeout=ASK_SECONDS)
        return paths.ledger_path(seen_here(server, admin.understood(said, DoctorView)))
    return None


def seen_here(server: LiveServer, view: DoctorView) -> Settings:
    """A server's settings with its folders as they are called from here: theirs may begin where it runs."""
    settings = view.settings
    record = replace(settings.record, path=_whole(settings.record.path, server, view))
    return replace(settings, record=record, data_folder=_whole(settings.data_folder, server, view))


def _whole(named: str, server: LiveServer, view: DoctorView) -> str:
    if not named or named.startswith(("/", "~")):
        return named
    base = str(Path(view.file).parent)
    with contextlib.suppress(psutil.Error, OSError):
        base = psutil.Process(server.pid).cwd() or base
    return str(Path(base, named))
