"""Results on disk: one JSON file each in the data folder, the oldest gone when there are too many."""

import contextlib
import datetime as dt
import re
import secrets
from pathlib import Path
from typing import TypeVar

import msgspec

from slipstream.config import paths
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.result import LoadResult
from slipstream.testing.load.summary import Summary

FILE_BYTES_MAX = 4 * 1024 * 1024
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}")


FOLDER = "load"
LISTED_BY = "slipstream load list"
Kept = TypeVar("Kept")


def store(result: LoadResult, settings: Settings) -> LoadResult:
    """Keep a result; the same with its id. Raises `ConfigurationError` or `OSError`."""
    name = new_name(result.summary.started_wall_ns)
    summary = msgspec.structs.replace(result.summary, id=name)
    put(folder(settings, FOLDER), name, msgspec.json.encode(summary), kept=settings.testing.kept)
    return LoadResult(summary, result.samples)


def stored(settings: Settings) -> list[LoadResult]:
    """All that are kept, the newest first; files that are none of ours are left out."""
    found = []
    for path in files(folder(settings, FOLDER)):
        with contextlib.suppress(ConfigurationError):
            found.append(LoadResult(read(path, Summary, listed_by=LISTED_BY)))
    return found


def find(name: str, settings: Settings) -> LoadResult:
    """One by its id, or the beginning of it; `last` = the newest; or a file that was exported as JSON.

    Raises `ConfigurationError` where none, or more than one, is meant.
    """
    path = one(name, folder(settings, FOLDER), listed_by=LISTED_BY)
    return LoadResult(read(path, Summary, listed_by=LISTED_BY))


def new_name(started_wall_ns: int) -> str:
    """An id: when it was, and four letters of its own."""
    when = dt.datetime.fromtimestamp(started_wall_ns / 1e9, dt.UTC)
    return f"{when:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def folder(settings: Settings, kind: str) -> Path:
    """Where results of a kind are; made if it is missing."""
    where = paths.data_folder(settings) / kind
    where.mkdir(mode=paths.OWNER_ONLY, exist_ok=True)
    return where


def put(where: Path, name: str, content: bytes, *, kept: int) -> None:
    """Write a result whole or not at all; only the newest `kept` stay."""
    unfinished = where / f".{name}.new"
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(content)
    unfinished.rename(where / f"{name}.json")
    for path in files(where)[kept:]:
        with contextlib.suppress(OSError):
            path.unlink()


def files(where: Path) -> list[Path]:
    """Results in a folder, the newest first."""
    return sorted((each for each in where.glob("*.json") if _ID.fullmatch(each.stem)), reverse=True)


def one(name: str, where: Path, *, listed_by: str) -> Path:
    """The file that a name means. Raises `ConfigurationError` for none or several."""
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return path
    known = files(where)
    fitting = known[:1] if name == "last" else [each for each in known if name and each.stem.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    raise ConfigurationError(
        f"{len(fitting) or 'No'} stored results are called {name[:60]!r}.", hint=f"`{listed_by}` shows them."
    )


def read(path: Path, kind: type[Kept], *, listed_by: str) -> Kept:
    """A stored result. Raises `ConfigurationError` for a file that holds none of that kind."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigurationError(f"{path} is too large for a result.")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError(
            f"{path} holds no result of that kind: {error}.", hint=f"Name one of `{listed_by}`."
        ) from None
