"""Where our files lie: data (models, records, keys) and state (live servers), after each system's custom.

Folders are made on first need, for their owner only. It does not know what is in the files.
"""

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError

OWNER_ONLY = 0o700
Purpose = Literal["data", "state"]


def data_folder(settings: Settings) -> Path:
    """The folder of models, records and keys, made with mode 0700. Raises `ConfigurationError`."""
    if settings.data_folder:
        return _made(_chosen(settings.data_folder), "data_folder")
    return _made(customary(sys.platform, os.environ, "data"), "data_folder")


def state_folder(settings: Settings) -> Path:
    """The folder where live servers register; nobody else may enter it.

    Made with mode 0700. Raises `ConfigurationError` if it cannot be made, belongs to somebody else
    or is open to others: whoever could write there could pose as a server of ours.
    """
    return _private(_made(_state(settings), "state_folder"))


def existing_state_folder(settings: Settings) -> Path | None:
    """Like `state_folder`, for somebody who only looks: None where there is none, and none is made.

    Raises `ConfigurationError` where it is somebody else's.
    """
    folder = _state(settings)
    try:
        return _private(folder) if folder.is_dir() else None
    except PermissionError as error:
        raise ConfigurationError(
            f"{folder}: cannot be looked into ({error.strerror}).",
            hint="Set `state_folder` to a folder of yours, or be the user whose server it is.",
        ) from None


def records_path(settings: Settings) -> Path:
    """The SQLite file of the records."""
    return _file(settings.record.path) or data_folder(settings) / "records.db"


def tiles_path(settings: Settings) -> Path:
    """Where the metrics are kept that users have added to the dashboard."""
    return data_folder(settings) / "dashboard.json"


def alerts_path(settings: Settings) -> Path:
    """The SQLite file of the alerts."""
    return _file(settings.alerts.path) or data_folder(settings) / "alerts.db"


def series_path(settings: Settings) -> Path:
    """The SQLite file of the time series."""
    return data_folder(settings) / "metrics.db"


def ledger_path(settings: Settings) -> Path:
    """The SQLite file of the doctor's advice."""
    return data_folder(settings) / "doctor.db"


def settings_since_path(settings: Settings) -> Path:
    """Where it is kept since when the settings hold that are served with."""
    return data_folder(settings) / "settings-since.json"


def keys_path(settings: Settings) -> Path:
    """The SQLite file of the keys."""
    return _file(settings.keys.path) or data_folder(settings) / "keys.db"


def customary(platform: str, environ: Mapping[str, str], purpose: Purpose) -> Path:
    """Where a system keeps such files of a user: XDG on Linux, its own places on macOS and Windows.

    A relative XDG path is ignored, as the XDG Base Directory Specification 0.8 asks.
    """
    if platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return (Path(local) if local else _home() / "AppData" / "Local") / "slipstream" / purpose
    if platform == "darwin":
        folder = _home() / "Library" / "Application Support" / "slipstream"
        return folder if purpose == "data" else folder / "state"
    named = environ.get("XDG_DATA_HOME" if purpose == "data" else "XDG_STATE_HOME", "")
    fallback = Path(".local", "share" if purpose == "data" else "state")
    return (Path(named) if named.startswith("/") else _home() / fallback) / "slipstream"


def _state(settings: Settings) -> Path:
    if settings.state_folder:
        return _chosen(settings.state_folder)
    return customary(sys.platform, os.environ, "state")


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigurationError(
            "There is no home folder to keep files in.", hint="Set `data_folder` and `state_folder`."
        ) from None


def _chosen(named: str) -> Path:
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError:
        raise ConfigurationError(f"{named}: has no home folder.", hint="Write the whole path.") from None


def _file(named: str) -> Path | None:
    """A file that the settings name, its folder made; None where they name none."""
    if not named:
        return None
    path = _chosen(named)
    _made(path.parent, "path")
    return path


def _made(folder: Path, setting: str) -> Path:
    """The folder, made if it is not there. Only folders made here get their mode from us."""
    try:
        for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
            missing.mkdir(mode=OWNER_ONLY, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: cannot be made ({error.strerror}).",
            hint=f"Set `{setting}` to a folder that you may write to.",
        ) from None
    if not folder.is_dir():
        raise ConfigurationError(
            f"{folder}: is not a folder.", hint=f"Set `{setting}` to one that you may write to."
        )
    return folder


def _private(folder: Path) -> Path:
    if sys.platform == "win32":
        return folder  # the user's profile is private by its access list
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{folder}: belongs to another user.", hint="Set `state_folder` to a folder of your own."
        )
    if stat.S_IMODE(status.st_mode) & ~OWNER_ONLY:
        raise ConfigurationError(f"{folder}: is open to other users.", hint=f"Run: chmod 700 {folder}")
    return folder
