"""kill -9 in the middle of an apply: the fix does not stay in force, and the ledger tells of it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from e2e.doctor_traffic import SETTINGS, traffic, two_upstreams
from e2e.serving import Serving, serving
from e2e.test_doctor_run import applying, ended, weight
from server.waiting import wait_for

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with two_upstreams(tmp_path_factory.mktemp("killed"), west_itl_ms=60, keys="always") as running:
        traffic(running, 240, 40)
        yield running


def command(server: Serving, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "slipstream", "doctor", *arguments],
        cwd=server.folder, env=server.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def said(server: Serving, *arguments: str) -> str:
    with command(server, *arguments) as process:
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    return " ".join(told.split())


def killed_while(process: subprocess.Popen[str] | psutil.Process, look: Callable[[], bool]) -> None:
    wait_for(
        lambda: look() or process.poll() is not None if isinstance(process, subprocess.Popen) else look()
    )
    process.kill()
    process.wait(20)


def states(server: Serving) -> list[str]:
    return [each["state"] for each in server.json("/_slipstream/ledger")["entries"]]  # type: ignore[attr-defined]


@pytest.mark.long
def test_a_killed_command_is_told_and_taken_back(server: Serving) -> None:
    """Who only looks is told what to do; asked to, file and server are as before, and so the row says."""
    file = server.folder / "slipstream.toml"
    before = file.read_text("utf-8")
    with command(server, "--apply", "1", "--verify", "300") as process:
        killed_while(process, lambda: weight(server) != 1)
    assert "weight" in file.read_text("utf-8")
    assert states(server)[0] == "applying"
    assert "may still be in force" in str(server.json("/_slipstream/ledger")["said"])
    assert "`slipstream doctor --recover` takes it back" in said(server, "--ledger")
    assert weight(server) != 1

    assert "the file is as before" in said(server, "--recover")
    assert file.read_text("utf-8") == before
    assert weight(server) == 1
    assert states(server) == ["interrupted"]


@pytest.mark.long
@pytest.mark.parametrize("milliseconds", [0, 40, 90, 200, 350, 500, 700, 1000])
def test_killed_at_any_moment_it_is_taken_back(server: Serving, milliseconds: int) -> None:
    """From its row on: while it is put in, in force, taken out, or out."""
    file = server.folder / "slipstream.toml"
    before = file.read_text("utf-8")
    told = len(states(server))
    with command(server, "--apply", "1", "--verify", "300") as process:
        wait_for(lambda: len(states(server)) > told or process.poll() is not None)
        time.sleep(milliseconds / 1e3)
        process.kill()
    assert states(server)[0] == "applying"
    said(server, "--recover")

    assert file.read_text("utf-8") == before
    assert weight(server) == 1
    assert states(server) == ["interrupted"] * (told + 1)


def broken_off_beside(server: Serving, edited: Callable[[str], str]) -> None:
    """Somebody edits the file while the fix is in; then the command is ended."""
    file = server.folder / "slipstream.toml"
    with command(server, "--apply", "1", "--verify", "300") as process:
        wait_for(lambda: weight(server) != 1 or process.poll() is not None)
        file.write_text(edited(file.read_text("utf-8")), "utf-8")
        process.terminate()
        process.wait(60)


@pytest.mark.long
def test_an_edit_of_others_is_kept_and_the_fix_is_not(server: Serving) -> None:
    """The fix that ends takes itself out of their file, and the ledger says so."""
    file = server.folder / "slipstream.toml"
    before = file.read_text("utf-8")
    broken_off_beside(server, lambda now: now + "# by hand\n")

    assert file.read_text("utf-8") == before + "# by hand\n"
    assert weight(server) == 1
    assert states(server)[0] == "rolled back"
    assert "nothing to take back" in said(server, "--recover")
    file.write_text(before, "utf-8")


@pytest.mark.long
def test_what_could_not_be_taken_back_stays_told(server: Serving) -> None:
    """The file cannot be read just then: the fix that ends leaves it, and `--recover` mends it once it can."""
    file = server.folder / "slipstream.toml"
    before = file.read_text("utf-8")
    broken_off_beside(server, lambda now: now + "half a [")
    assert states(server)[0] == "applying"
    assert weight(server) != 1
    file.write_text(file.read_text("utf-8").replace("half a [", "# by hand\n"), "utf-8")

    assert "what else was changed in the file since is kept" in said(server, "--recover")
    assert file.read_text("utf-8") == before + "# by hand\n"
    assert weight(server) == 1
    assert states(server)[0] == "interrupted"
    file.write_text(before, "utf-8")


@pytest.mark.long
def test_a_killed_child_of_the_page_is_taken_back_at_once(server: Serving) -> None:
    """The server has seen it die."""
    before = (server.folder / "slipstream.toml").read_text("utf-8")
    killed_while(applying(server, lambda: weight(server) != 1), lambda: True)
    found = ended(server)

    assert found["state"] == "failed"
    assert "taken back" in str(found["hint"])
    assert (server.folder / "slipstream.toml").read_text("utf-8") == before
    assert weight(server) == 1
    assert states(server)[0] == "interrupted"


def test_a_server_that_starts_again_takes_it_back(server: Serving) -> None:
    """All was killed at once, as by a power cut. (The last test: it kills.)"""
    file = server.folder / "slipstream.toml"
    before = file.read_text("utf-8")
    child = applying(server, lambda: weight(server) != 1)
    for each in (server.process, child):
        each.kill()
    server.process.wait()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert "weight" in file.read_text("utf-8")

    with serving(server.folder, **SETTINGS) as again:
        assert file.read_text("utf-8") == before
        assert weight(again) == 1
        assert states(again)[0] == "interrupted"
        assert "a fix of the doctor's was interrupted" in again.log.read_text("utf-8")
