"""Results on disk: one JSON file each in the data folder, the oldest gone when there are too many."""

import contextlib
import datetime as dt
import re
import secrets
from pathlib import Path

import msgspec

from slipstream.config import paths
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.result import LoadResult
from slipstream.testing.load.summary import Summary

FILE_BYTES_MAX = 4 * 1024 * 1024
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}")


def store(result: LoadResult, settings: Settings) -> LoadResult:
    """Keep a result; the same with its id. Raises `ConfigurationError` or `OSError`."""
    when = dt.datetime.fromtimestamp(result.summary.started_wall_ns / 1e9, dt.UTC)
    name = f"{when:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    summary = msgspec.structs.replace(result.summary, id=name)
    folder = _folder(settings)
    unfinished = folder / f".{name}.new"
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(msgspec.json.encode(summary))
    unfinished.rename(folder / f"{name}.json")
    for path in _files(folder)[settings.testing.kept :]:
        with contextlib.suppress(OSError):
            path.unlink()
    return LoadResult(summary, result.samples)


def stored(settings: Settings) -> list[LoadResult]:
    """All that are kept, the newest first; files that are none of ours are left out."""
    found = []
    for path in _files(_folder(settings)):
        with contextlib.suppress(ConfigurationError):
            found.append(_read(path))
    return found


def find(name: str, settings: Settings) -> LoadResult:
    """One by its id, or the beginning of it; `last` = the newest; or a file that was exported as JSON.

    Raises `ConfigurationError` where none, or more than one, is meant.
    """
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return _read(path)
    files = _files(_folder(settings))
    fitting = files[:1] if name == "last" else [each for each in files if name and each.stem.startswith(name)]
    if len(fitting) == 1:
        return _read(fitting[0])
    raise ConfigurationError(
        f"{len(fitting) or 'No'} stored results are called {name[:60]!r}.",
        hint="`slipstream load list` shows them.",
    )


def _folder(settings: Settings) -> Path:
    folder = paths.data_folder(settings) / "load"
    folder.mkdir(mode=paths.OWNER_ONLY, exist_ok=True)
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted((each for each in folder.glob("*.json") if _ID.fullmatch(each.stem)), reverse=True)


def _read(path: Path) -> LoadResult:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigurationError(f"{path} is too large for a result.")
        return LoadResult(msgspec.json.decode(path.read_bytes(), type=Summary))
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError(
            f"{path} holds no result of a load test: {error}.", hint="Name one of `slipstream load list`."
        ) from None
