"""`slipstream top`: the live server in the terminal, drawn, as lines, as JSON."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from e2e.load import asking
from e2e.serving import Serving, serving
from slipstream.cli.top_view import SPARK_WIDTH, History, line, screen
from slipstream.core.record import Record
from slipstream.dashboard.frame import Frame, ModelNow, TileNow, UpstreamNow

FRAME = Frame(
    at=1_795_608_000,
    tiles=[TileNow("cpu_usage", 12.5, "last 10 s"), TileNow("memory_usage", None, "last 10 s")],
    lines={
        "response_time": {"p50": 120.0, "p95": 1450.0, "p99": None},
        "throughput": {"served": 7.0, "failed": 1.0},
        "in_flight": {"in flight": 3.0},
    },
    models=[ModelNow("evil[bold]\x1b[2J", 8.0, 120.0, 1450.0, 90.0, 64.0, 12.5, 1000.0, None)],
    upstreams=[UpstreamNow("local", 8.0, 100.0, 0.0, healthy=False)],
    firing=2.0,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    settings = {
        "SLIPSTREAM__MODELS__LOCAL__ENABLED": "off",
        "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
        "SLIPSTREAM__MODELS__SIMULATED__FAST__TTFT_MS": "20",
    }
    with serving(tmp_path_factory.mktemp("top"), **settings) as running, asking(running):
        yield running


def top(server: Serving, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "slipstream", "top", *arguments]
    return subprocess.run(
        command,
        env=server.environ,
        cwd=server.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.long
def test_lines_where_nobody_draws(server: Serving) -> None:
    """Into a pipe goes a plain line a second, without control codes."""
    done = top(server, "--frames", "3")
    lines = done.stdout.splitlines()

    assert (done.returncode, done.stderr, len(lines)) == (0, "", 3)
    assert all("requests=" in each and "p95=" in each and "cpu=" in each for each in lines)
    assert "\x1b" not in done.stdout
    seconds = [each.split()[0] for each in lines]
    assert seconds == sorted(seconds)
    assert len(set(seconds)) >= 2  # a look that is late shares its second with the next


def test_frames_as_json(server: Serving) -> None:
    """Each line is a whole frame, with the numbers that the page gets."""
    done = top(server, "--json", "--frames", "2")
    frames = [json.loads(each) for each in done.stdout.splitlines()]

    assert [frame["at"] for frame in frames] == [frames[0]["at"], frames[0]["at"] + 1]
    assert [row["model"] for row in frames[1]["models"]] == ["fast"]


def test_no_server_is_said(tmp_path: Path) -> None:
    """Without a live server it says so, and how to start one."""
    done = subprocess.run(
        [sys.executable, "-m", "slipstream", "top"], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/bin", "SLIPSTREAM__STATE_FOLDER": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip

    assert done.returncode == 1
    assert "slipstream serve" in done.stderr


def test_screen_tells_all_and_runs_nothing() -> None:
    """Numbers, models, upstreams, slow requests; what others named never controls the terminal."""
    slow = [
        Record(
            id="req_1",
            arrived_wall_ns=FRAME.at * 10**9,
            model="fast",
            duration_ns=2_500_000_000,
            outcome="served",
        )
    ]
    output = io.StringIO()
    Console(file=output, width=140).print(screen(FRAME, slow, History(), "http://127.0.0.1:1"))
    said = output.getvalue()

    for part in (
        "1.45 s",
        "12.5 %",
        "8 req/s",
        "evil[bold]?[2J",
        "breaker open",
        "req_1",
        "2.5 s",
        "2 alerts fire",
        "q ends",
    ):
        assert part in said
    assert "\x1b" not in said


def test_line_tells_what_is_not_known() -> None:
    """A number that nobody measured is a dash."""
    assert "p99=–" in line(FRAME)
    assert "memory=–" in line(FRAME)
    assert line(FRAME).endswith("firing=2")


def test_sparkline_is_bounded() -> None:
    """From zero to the highest, of the last seconds only."""
    history = History()
    for value in range(100):
        history.add("x", float(value))

    assert len(history.spark("x")) == SPARK_WIDTH
    assert history.spark("x")[-1] == "█"
    assert history.spark("unknown") == ""
