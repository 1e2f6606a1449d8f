"""The metrics that users have added to the dashboard, in one small JSON file, replaced as a whole."""

import contextlib
import os
import threading
from pathlib import Path

import msgspec

from slipstream.core.errors import StoreFailed
from slipstream.core.tile import Tile, added, checked

FILE_BYTES_MAX = 256 * 1024


class TileStore:
    """Keeps tiles. Any thread may use it; one process writes. `path` None: in memory only.

    A file that cannot be read counts as empty and is kept beside the new one, as `*.damaged`.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._tiles = _read(path) if path is not None else ()

    def all(self) -> tuple[Tile, ...]:
        """All of them, in the order in which they were added."""
        return self._tiles

    def put(self, tile: Tile) -> Tile:
        """Keep a tile, in place of the one of its owner and title; as it is kept.

        Raises `BadRequest` for one that cannot be shown and at the most that there may be, `StoreFailed`.
        """
        tile = checked(tile)
        with self._lock:
            self._replace(added(self._tiles, tile))
        return tile

    def remove(self, owner: str, title: str) -> bool:
        """Forget a tile; whether there was one. Raises `StoreFailed`."""
        with self._lock:
            rest = tuple(each for each in self._tiles if (each.owner, each.title) != (owner, title))
            if len(rest) == len(self._tiles):
                return False
            self._replace(rest)
            return True

    def _replace(self, tiles: tuple[Tile, ...]) -> None:
        if self._path is not None and tiles != self._tiles:
            unfinished = self._path.with_suffix(".new")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                unfinished.touch(mode=0o600)
                with unfinished.open("wb") as file:
                    file.write(msgspec.json.encode(tiles))
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(self._path)
            except OSError as error:
                raise StoreFailed(f"{self._path}: cannot be written ({error.strerror}).") from error
        self._tiles = tiles


def _read(path: Path) -> tuple[Tile, ...]:
    try:
        with path.open("rb") as file:
            body = file.read(FILE_BYTES_MAX + 1)
        return msgspec.json.decode(body, type=tuple[Tile, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return ()
