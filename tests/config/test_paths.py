"""Where files lie: each system's custom, for their owner only."""

import os
import stat
from pathlib import Path

import pytest

from slipstream.config import paths
from slipstream.config.settings import Keys, Recording, Settings
from slipstream.core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("platform", "environ", "purpose", "expected"),
    [
        ("linux", {}, "data", "HOME/.local/share/slipstream"),
        ("linux", {}, "state", "HOME/.local/state/slipstream"),
        ("linux", {"XDG_DATA_HOME": "/d", "XDG_STATE_HOME": "/s"}, "data", "/d/slipstream"),
        ("linux", {"XDG_DATA_HOME": "/d", "XDG_STATE_HOME": "/s"}, "state", "/s/slipstream"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "data", "HOME/.local/share/slipstream"),
        ("darwin", {}, "data", "HOME/Library/Application Support/slipstream"),
        ("darwin", {}, "state", "HOME/Library/Application Support/slipstream/state"),
        ("win32", {"LOCALAPPDATA": "/c/local"}, "data", "/c/local/slipstream/data"),
        ("win32", {}, "state", "HOME/AppData/Local/slipstream/state"),
    ],
)
def test_customs(platform: str, environ: dict[str, str], purpose: paths.Purpose, expected: str) -> None:
    """XDG on Linux, Application Support on macOS, LOCALAPPDATA on Windows."""
    found = paths.customary(platform, environ, purpose)

    assert found.as_posix() == expected.replace("HOME", Path.home().as_posix())


def test_folders_are_made_for_their_owner_only(tmp_path: Path) -> None:
    """Every folder that is made on the way is closed to others, whatever the umask."""
    before = os.umask(0)
    try:
        settings = Settings(data_folder=str(tmp_path / "a" / "b"), state_folder=str(tmp_path / "c"))
        made = [paths.data_folder(settings), paths.state_folder(settings)]
    finally:
        os.umask(before)

    assert made == [tmp_path / "a" / "b", tmp_path / "c"]
    for folder in (*made, tmp_path / "a"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_files_lie_in_the_data_folder_unless_named(tmp_path: Path) -> None:
    """Records and keys have a place of their own when the settings name one."""
    settings = Settings(data_folder=str(tmp_path))
    named = Settings(
        record=Recording(path=str(tmp_path / "x" / "r.db")), keys=Keys(path=str(tmp_path / "y" / "k.db"))
    )

    assert paths.records_path(settings) == tmp_path / "records.db"
    assert paths.keys_path(settings) == tmp_path / "keys.db"
    assert paths.records_path(named) == tmp_path / "x" / "r.db"
    assert paths.keys_path(named) == tmp_path / "y" / "k.db"
    assert (tmp_path / "y").is_dir()


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the way is a sentence with the setting to change."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="data_folder"):
        paths.data_folder(Settings(data_folder=str(tmp_path / "file")))
    with pytest.raises(ConfigurationError, match="data_folder"):
        paths.data_folder(Settings(data_folder=str(tmp_path / "file" / "below")))


def test_state_open_to_others_is_refused(tmp_path: Path) -> None:
    """Whoever may write to the state folder could pose as a server; so it must be ours alone."""
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o777)

    with pytest.raises(ConfigurationError, match="chmod 700"):
        paths.state_folder(Settings(state_folder=str(folder)))
