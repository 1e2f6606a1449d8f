"""The register of live servers, with real processes that come, go and are killed."""

import contextlib
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from slipstream.config.live import LiveServer, find_live, live_servers, new_token, register
from slipstream.config.settings import Models, Server, Settings
from slipstream.core.errors import ConfigurationError

HOLDER = """
import sys
from slipstream.config.live import register
from slipstream.config.settings import Models, Settings
settings = Settings(state_folder=sys.argv[1], models=Models(default=sys.argv[3]))
with register(settings, url=sys.argv[2], control="", token="t", version="1"):
    print("registered", flush=True)
    sys.stdin.read()
"""


def settings_in(folder: Path, *, default: str = "") -> Settings:
    return Settings(state_folder=str(folder / "state"), models=Models(default=default))


@contextlib.contextmanager
def holder(folder: Path, url: str, *, default: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Another process that is registered as a server."""
    state = settings_in(folder).state_folder
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, state, url, default], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"registered\n"
            yield process
        finally:
            process.kill()


def test_nobody_is_alive(tmp_path: Path) -> None:
    """Without a server there is none; looking is no error, and makes no folder."""
    assert find_live(settings_in(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_server_is_found_while_it_lives(tmp_path: Path) -> None:
    """A server is found with all it said of itself, from registration to its end."""
    settings, token = settings_in(tmp_path), new_token()
    with register(settings, url="http://127.0.0.1:1", control="/s", token=token, version="0.1"):
        found = find_live(settings)

        assert found is not None
        assert (found.url, found.control, found.token) == ("http://127.0.0.1:1", "/s", token)
        assert token not in repr(found)
    assert find_live(settings) is None
    assert list((tmp_path / "state" / "live").iterdir()) == []


def test_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """The token stands in a file that nobody else may read, in a folder that nobody else may enter."""
    with register(settings_in(tmp_path), url="u", control="", token="t", version="1") as entered:
        assert stat.S_IMODE(entered.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(entered.path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(entered.path.parent.parent.stat().st_mode) == 0o700


def test_killed_server_is_swept(tmp_path: Path) -> None:
    """After kill -9 the file is left behind, its lock is free, and whoever looks sweeps it."""
    with holder(tmp_path, "http://127.0.0.1:1") as process:
        found = find_live(settings_in(tmp_path))
        assert found is not None
        assert found.pid == process.pid

        process.send_signal(signal.SIGKILL)
        process.wait()
        left = list((tmp_path / "state" / "live").iterdir())

        assert len(left) == 1
        assert find_live(settings_in(tmp_path)) is None
        assert not left[0].exists()


def test_process_id_used_again_deceives_nobody(tmp_path: Path) -> None:
    """A file that names a living process but holds no lock belongs to nobody."""
    folder = tmp_path / "state" / "live"
    with register(settings_in(tmp_path), url="u", control="", token="t", version="1") as entered:
        copy = entered.path.with_name("1-copy.json")
        copy.write_bytes(entered.path.read_bytes())

        assert len(live_servers(settings_in(tmp_path))) == 1
        assert [path.name for path in folder.iterdir()] == [entered.path.name]


def test_server_of_the_same_settings_is_preferred(tmp_path: Path) -> None:
    """Of several, the one with our settings; how it is served and logged makes no difference."""
    ours = settings_in(tmp_path, default="ours")
    with holder(tmp_path, "http://a", default="theirs"), holder(tmp_path, "http://b", default="ours"):
        found = find_live(msgspec.structs.replace(ours, server=Server(port=9)))

        assert found is not None
        assert found.url == "http://b"


def test_only_server_is_taken(tmp_path: Path) -> None:
    """A server of other settings is taken when it is the only one."""
    with holder(tmp_path, "http://a", default="theirs"):
        found = find_live(settings_in(tmp_path, default="ours"))

        assert found is not None
        assert found.url == "http://a"


def test_several_are_listed(tmp_path: Path) -> None:
    """Where several fit, the error lists them; naming one by URL or process id settles it."""
    settings = settings_in(tmp_path)
    with holder(tmp_path, "http://a"), holder(tmp_path, "http://b") as second:
        with pytest.raises(ConfigurationError, match=r"http://a .*http://b"):
            find_live(settings)
        by_url, by_pid = find_live(settings, server="http://b/"), find_live(settings, server=str(second.pid))

        assert by_url == by_pid
        assert isinstance(by_url, LiveServer)
        with pytest.raises(ConfigurationError, match=r"No live server is called http://c.*http://a"):
            find_live(settings, server="http://c")


def test_words_of_another_version_are_passed_over(tmp_path: Path) -> None:
    """A live server whose file we cannot read is not ours to attach to, nor to sweep."""
    with register(settings_in(tmp_path), url="u", control="", token="t", version="1") as entered:
        entered.path.write_bytes(b'{"of": "the future"}')

        assert live_servers(settings_in(tmp_path)) == []
        assert entered.path.exists()
