"""The metrics that were added outlive the server."""

from pathlib import Path

import pytest

from slipstream.core.errors import BadRequest, StoreFailed
from slipstream.core.tile import Tile
from slipstream.store.tiles import TileStore

CPU = Tile("CPU", "cpu_usage", "%", "me")


def test_tiles_are_there_again(tmp_path: Path) -> None:
    """What was put is read by the next; what was removed is gone."""
    path = tmp_path / "data" / "dashboard.json"
    store = TileStore(path)
    store.put(CPU)
    store.put(Tile("Memory", "memory_usage", "%", "me"))
    assert store.remove("me", "Memory")
    assert not store.remove("me", "Memory")

    assert TileStore(path).all() == (CPU,)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b'[{"title":1,"metric":"x"}]', b"[" * 5000]
)
def test_damaged_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    """A file that cannot be read counts as empty and is kept."""
    path = tmp_path / "dashboard.json"
    path.write_bytes(content)
    store = TileStore(path)

    assert store.all() == ()
    assert path.with_suffix(".damaged").read_bytes() == content
    store.put(CPU)
    assert TileStore(path).all() == (CPU,)


def test_refused_tile_changes_nothing(tmp_path: Path) -> None:
    """What cannot be shown is not kept."""
    store = TileStore(tmp_path / "dashboard.json")
    with pytest.raises(BadRequest):
        store.put(Tile("CPU", "no_such_metric"))

    assert store.all() == ()


def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The tile is not said to be kept where it is not."""
    (tmp_path / "data").write_text("not a folder")
    store = TileStore(tmp_path / "data" / "dashboard.json")
    with pytest.raises(StoreFailed):
        store.put(CPU)

    assert store.all() == ()
