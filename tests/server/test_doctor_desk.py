"""The desk that runs the doctor for pages: real child processes, one at a time, bounded, and never orphans."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from server.waiting import until, wait_for
from slipstream.core.errors import BadRequest, Unavailable
from slipstream.server import doctor_desk
from slipstream.server.doctor_desk import DoctorDesk, DoctorRun

HEAD = "import json, os, pathlib, signal, sys, time\nfolder = pathlib.Path(os.environ['SLIPSTREAM__DATA_FOLDER'])\n"
NOTED = "(folder / 'pid').write_text(str(os.getpid()))\nprint('looking', file=sys.stderr, flush=True)\n"
WAITS = HEAD + NOTED + "while not (folder / 'go').exists(): time.sleep(0.01)\n"


def desk(folder: Path, script: str = "", *, look_seconds: float = 120.0) -> DoctorDesk:
    """A desk whose child runs `script`; without one it is the real doctor."""
    folders = {"data_folder": str(folder), "state_folder": str(folder / "state")}
    if not script:
        return DoctorDesk(folders, None)
    return DoctorDesk(folders, None, command=(sys.executable, "-c", script), look_seconds=look_seconds)


async def finished(at: DoctorDesk) -> DoctorRun:
    await until(lambda: at.state().state != "running")
    return at.state()


def gone(folder: Path) -> bool:
    pid = int((folder / "pid").read_text())
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_run_is_told_while_it_lasts_and_its_result_after(tmp_path: Path) -> None:
    """Running with its last line, then done with what was printed; the words of the window reach the child."""

    async def main() -> tuple[DoctorRun, DoctorRun, DoctorRun]:
        at = desk(tmp_path, WAITS + "print(json.dumps(sys.argv[1:]))")
        assert at.state() == DoctorRun()
        at.start("15m", 2, 30, verify_by="live", expect="a.b")
        await until(lambda: at.state().line)
        first = at.state()
        await asyncio.sleep(0.01)
        second = at.state()
        (tmp_path / "go").touch()
        return first, second, await finished(at)

    first, second, last = asyncio.run(main())
    assert (first.state, first.line, first.number) == ("running", "looking", 1)
    assert second.seconds > first.seconds
    assert last.state == "done"
    assert msgspec.json.decode(last.result) == [
        f"--server={os.getpid()}",
        "--since=15m",
        "--apply=2",
        "--verify=30",
        "--expect=a.b",
        "--verify-by=live",
    ]


def test_it_is_at_work_for_one_at_a_time(tmp_path: Path) -> None:
    """A second one is refused and told what to do; afterwards there is room again."""

    async def main() -> DoctorRun:
        at = desk(tmp_path, WAITS + "print(1)")
        at.start("15m")
        with pytest.raises(Unavailable, match="at work already") as refused:
            at.start("1h")
        assert (refused.value.status, refused.value.code) == (409, "busy")
        assert "DELETE" in refused.value.hint
        (tmp_path / "go").touch()
        await finished(at)
        at.start("1h")
        return await finished(at)

    last = asyncio.run(main())
    assert (last.state, last.number, last.since) == ("done", 2, "1h")


@pytest.mark.parametrize(
    ("since", "apply", "seconds"),
    [("yesterday", None, 1), ("0s", None, 1), ("9000h", None, 1), ("--json", None, 1), ("1h", 0, 1), ("1h", 1, -1),
     ("1h", 1, 1e9), ("1h", 1, float("nan"))],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(
    tmp_path: Path, since: str, apply: int | None, seconds: float
) -> None:
    """With words, before any process is started."""

    async def main() -> None:
        at = desk(tmp_path, NOTED)
        with pytest.raises(BadRequest):
            at.start(since, apply, seconds)
        assert at.state().state == "idle"

    asyncio.run(main())


def test_the_real_doctor_says_what_is_wrong(tmp_path: Path) -> None:
    """Where no server is registered the command's own error and hint are passed on."""

    async def main() -> DoctorRun:
        at = desk(tmp_path)
        at.start("15m")
        return await finished(at)

    last = asyncio.run(main())
    assert last.state == "failed"
    assert last.error == f"No live server is called {os.getpid()}."
    assert "slipstream serve" in last.hint


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by signal 9"),
        ("sys.exit(3)", "ended with status 3"),
        ("print('no JSON')", "no JSON"),
        ("print('[' + '1,' * 3_000_000 + '1]')", "more than fits"),
    ],
)
def test_a_child_that_fails_is_told_in_words(tmp_path: Path, script: str, error: str) -> None:
    """However it ends."""

    async def main() -> DoctorRun:
        at = desk(tmp_path, HEAD + script)
        at.start("15m")
        return await finished(at)

    last = asyncio.run(main())
    assert last.state == "failed"
    assert error in last.error
    assert last.hint


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """Its process is gone when that is said."""

    async def main() -> DoctorRun:
        at = desk(tmp_path, WAITS, look_seconds=3.0)
        at.start("15m")
        return await finished(at)

    last = asyncio.run(main())
    assert last.state == "failed"
    assert "longer than 3 s" in last.error
    assert not (tmp_path / "pid").exists() or gone(tmp_path)


TIDY = """
def taken_back(number, frame):
    (folder / 'taken back').touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, taken_back)
"""


def test_a_cancelled_one_takes_back_what_it_changed(tmp_path: Path) -> None:
    """It is terminated, not killed, and waited for; it says so; cancelling twice is once."""

    async def main() -> tuple[DoctorRun, DoctorRun]:
        at = desk(tmp_path, HEAD + TIDY + WAITS)
        at.start("15m", 1, 5)
        await until(lambda: at.state().line)
        return tuple(await asyncio.gather(at.cancel(), at.cancel()))

    first, second = asyncio.run(main())
    assert first.state == second.state == "cancelled"
    assert "taken back" in first.hint
    assert (tmp_path / "taken back").exists()
    assert gone(tmp_path)


def test_a_stubborn_one_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is said where what was before lies, as nobody could take it back."""
    monkeypatch.setattr(doctor_desk, "END_SECONDS", 0.3)
    monkeypatch.setattr(doctor_desk, "RECOVER_SECONDS", 0.3)

    async def main() -> DoctorRun:
        at = desk(tmp_path, HEAD + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITS)
        at.start("15m", 1, 5)
        await until(lambda: at.state().line)
        return await at.cancel()

    last = asyncio.run(main())
    assert last.state == "cancelled"
    assert ".before-doctor" in last.hint
    assert gone(tmp_path)


RECOVERS = "if '--recover' in sys.argv: (folder / 'taken back').touch(); sys.exit(0)\n"


@pytest.mark.parametrize(("apply", "is_taken_back"), [(1, True), (None, False)])
def test_what_a_killed_one_leaves_is_taken_back(
    tmp_path: Path, apply: int | None, is_taken_back: bool
) -> None:
    """By another child, at once, and said; one that only looked has left nothing."""

    async def main() -> DoctorRun:
        at = desk(tmp_path, HEAD + RECOVERS + NOTED + "os.kill(os.getpid(), signal.SIGKILL)")
        at.start("15m", apply, 5)
        return await finished(at)

    last = asyncio.run(main())
    assert (last.state, last.error) == ("failed", "The doctor was ended by signal 9.")
    assert ("taken back" in last.hint, (tmp_path / "taken back").exists()) == (is_taken_back, is_taken_back)


def test_cancelled_before_it_began_it_is_over(tmp_path: Path) -> None:
    """Whoever asks is not told for ever that it runs."""

    async def main() -> DoctorRun:
        at = desk(tmp_path, WAITS)
        at.start("15m")
        return await at.cancel()

    assert asyncio.run(main()).state == "cancelled"


def test_a_child_ends_with_its_lifeline_and_yields_to_others(tmp_path: Path) -> None:
    """A killed parent cannot say goodbye: the pipe ends, and so does the command, by a termination."""
    environ = os.environ | {
        "SLIPSTREAM__DATA_FOLDER": str(tmp_path),
        "SLIPSTREAM__STATE_FOLDER": str(tmp_path / "state"),
    }
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "slipstream.cli.tethered", "simulate", "--port", "0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline()  # it serves
        assert psutil.Process(child.pid).nice() > psutil.Process().nice()
        child.stdin.close()
        wait_for(lambda: child.poll() is not None)
        child.stdout.read()
    assert child.returncode in {0, 130, -signal.SIGTERM}
