"""Since when the settings hold that requests are served with: one small JSON file, replaced as a whole.

So that a restart with other settings is seen as the change that it is, and one with the same as none.
"""

import hashlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from slipstream.config.settings import Settings
from slipstream.core.errors import StoreFailed

FILE_BYTES_MAX = 4 * 1024


class Held(Struct, frozen=True):
    """Settings, by their digest, and since when they hold (wall clock, ns); 0 = as far as is known."""

    digest: str
    since_wall_ns: int


def digest(settings: Settings) -> str:
    """What makes settings the same for the time that requests take: the models, and how many workers ask."""
    seen = {"models": settings.models, "workers": settings.server.workers}
    return hashlib.sha256(msgspec.json.encode(seen, order="deterministic")).hexdigest()


def since(path: Path) -> int:
    """Since when those hold that were last served with; 0 where that is not known."""
    held = _read(path)
    return held.since_wall_ns if held is not None else 0


def begun(path: Path, settings: Settings, now_wall_ns: int) -> int:
    """A server begins to serve with these: since when they hold.

    Raises `StoreFailed` where that cannot be written down.
    """
    held = _read(path)
    if held is not None and held.digest == digest(settings):
        return held.since_wall_ns
    since_wall_ns = now_wall_ns if held is not None else 0
    hold(path, settings, since_wall_ns)
    return since_wall_ns


def hold(path: Path, settings: Settings, since_wall_ns: int) -> None:
    """Write down that these hold since then. Raises `StoreFailed`."""
    unfinished = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch(mode=0o600)
        with unfinished.open("wb") as file:
            file.write(msgspec.json.encode(Held(digest(settings), since_wall_ns)))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise StoreFailed(f"{path}: cannot be written ({error.strerror}).") from error


def _read(path: Path) -> Held | None:
    """What stands there; a file that cannot be read is as good as none."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(FILE_BYTES_MAX), type=Held)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
