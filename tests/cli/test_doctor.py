"""`slipstream doctor --floor` as a user runs it."""

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from rich.console import Console

from slipstream.cli import run
from slipstream.cli.doctor import headline, show
from slipstream.testing.floor_report import FloorReport, Load, Part, Target

COMMAND = [sys.executable, "-m", "slipstream", "doctor", "--floor"]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder for temporary files; a Unix socket's path has about 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="ss-") as name:
        yield Path(name)


def load(connections: int, p50_us: float, cpu_us: float | None) -> Load:
    return Load(connections, 1e6 / p50_us, p50_us, p50_us * 3, cpu_us, 0)


def target(name: str, p50_us: float, cpu_us: float | None) -> Target:
    return Target(name, load(1, p50_us, cpu_us), load(32, p50_us, cpu_us))


def found(**changes: object) -> FloorReport:
    whole = FloorReport(
        direct=target("direct", 30, None),
        floor=target("floor", 60, 25),
        gateway=target("gateway", 150, 100),
        upstream_wait_us=40,
        floor_own_us=20,
        gateway_own_us=110,
        times_floor=5.5,
        times_floor_cpu=4.0,
        rate_share=0.4,
        parts=[Part("admit", 10, 0.1), Part("cache", 100, 0.9)],
        records=1234,
        doubts=["Something shook."],
    )
    return msgspec.structs.replace(whole, **changes)


def test_it_names_the_distance_and_the_largest_step() -> None:
    """One sentence a number: own time, CPU, what takes most."""
    said = headline(found())

    assert "110 us of its own" in said
    assert "20 us: 5.5x above the floor" in said
    assert "100 us of CPU where the bare proxy takes 25 us (4.0x) and serves 40% as many" in said
    assert "Most of its time, 90%, goes to `cache`: a step of the way." in said


def test_a_lost_floor_is_said() -> None:
    """No quotient is shown that means nothing."""
    assert headline(found(times_floor=None)).startswith("The floor is lost in noise")


@pytest.mark.parametrize("report", [found(), found(times_floor=None, floor_own_us=-3.0, parts=[], records=0)])
def test_report_is_shown_in_a_narrow_terminal(report: FloorReport) -> None:
    """Tables and cautions fit 80 columns."""
    out = io.StringIO()

    show(report, Console(file=out, width=80))

    said = out.getvalue()
    assert "bare proxy" in said
    assert "caution: Something shook." in said
    assert max(map(len, said.splitlines())) <= 80


def test_without_any_requests_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing recorded, no server: no cause is made up, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIPSTREAM__DATA_FOLDER", str(tmp_path / "data"))
    monkeypatch.setenv("SLIPSTREAM__STATE_FOLDER", str(tmp_path / "state"))

    assert run(["doctor"]) == 0
    assert "too few" in capsys.readouterr().out
    assert run(["doctor", "--json", "--since", "15m"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["causes"] == []
    assert run(["doctor", "--apply", "1"]) == 1
    assert "no cause 1" in capsys.readouterr().err
    assert list((tmp_path / "data").glob("*")) == []


def test_a_window_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With an example of one."""
    assert run(["doctor", "--since", "yesterday"]) == 1
    assert "yesterday" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--apply", "1", "--verify", "nan"], "is no length of time"),
        (["--apply", "1", "--verify", "inf"], "is no length of time"),
        (["--apply", "1", "--verify", "-1"], "is no length of time"),
        (["--floor", "--seconds", "nan"], "is no length of time"),
        (["--floor", "--seconds", "0.1"], "less than 0.5 seconds"),
        (["--ledger", "--apply", "1"], "--apply and --ledger are asked for one at a time"),
        (["--recover", "--floor"], "--recover and --floor are asked for one at a time"),
        (["--verify", "20"], "--verify says how a fix is applied"),
        (["--ledger", "--expect", "x"], "--expect says how a fix is applied"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is looked at or switched on."""
    assert run(["doctor", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_it_measures_a_real_gateway_and_leaves_nothing_behind(short_path: Path) -> None:
    """All three targets answer, the steps come from the records, no process and no file is left."""
    environ = os.environ | {
        "TMPDIR": str(short_path),
        "SLIPSTREAM__SERVER__PROT": "not read by the measured one",
    }
    done = subprocess.run(
        [*COMMAND, "--seconds", "0.9", "--json"], capture_output=True, timeout=100, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    report = msgspec.json.decode(done.stdout, type=FloorReport)

    assert (report.gateway.alone.failed, report.gateway.loaded.failed) == (0, 0)
    assert report.records > 0
    assert {"admit", "open", "relay"} <= {part.name for part in report.parts}
    assert sum(part.share for part in report.parts) == pytest.approx(1)
    assert report.floor.loaded.cpu_us_per_request is not None
    assert list(short_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_interrupted_it_ends_what_it_has_started(how: signal.Signals, short_path: Path) -> None:
    """Ctrl-C and SIGTERM: exit code 130, no server left running."""
    with subprocess.Popen(
        [*COMMAND, "--seconds", "30"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(short_path)},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        top = psutil.Process(process.pid)
        deadline = time.monotonic() + 60
        while len(started := top.children(recursive=True)) < 4 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(started) >= 4  # mock, bare proxy, supervisor, worker
        process.send_signal(how)
        said = process.stderr.read()
        assert process.wait(60) == 130, said

    assert said.strip() == b""
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []
    assert list(short_path.iterdir()) == []
