"""`slipstream load`, `stress` and `replay` as a user runs them, against a simulated server."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from slipstream.config.settings import Simulated
from slipstream.testing.load.limit import Limit
from slipstream.testing.load.summary import Summary
from slipstream.testing.simulator import SimulatorProcess, start_simulator


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatorProcess]:
    with start_simulator(Simulated(slots=8, ttft_ms=20, itl_ms=1, output_tokens=8)) as running:
        yield running


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SLIPSTREAM__DATA_FOLDER": str(tmp_path / "data"),
        "SLIPSTREAM__STATE_FOLDER": str(tmp_path / "state"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "slipstream", *arguments],
        env=environ, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def test_a_result_for_people(server: SimulatorProcess, environ: dict[str, str], tmp_path: Path) -> None:
    """Figures on standard output, the way there on standard error, files where they were asked for, stored."""
    done = run(
        environ, "load", server.url, "--users", "3", "--duration", "1.5s", "--slo", "ttft<10s", "--compat", "vllm",
        "--html", str(tmp_path / "r.html"), "--csv", str(tmp_path / "r.csv"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"[0-9]+ requests, [0-9.]+ req/s, good [0-9.]+ req/s, errors 0%", done.stdout)
    assert "to first token" in done.stdout
    assert "Mean TPOT (ms)" in done.stdout
    assert "in flight" in done.stderr
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "r.csv").read_text().startswith("intended_ms,")

    stored = run(environ, "load", "list")
    assert server.url in stored.stdout
    shown = run(environ, "load", "show", "--json")
    assert msgspec.json.decode(shown.stdout, type=Summary).config.concurrent_users == 3
    assert "to first token" in run(environ, "load", "show").stdout


@pytest.mark.parametrize(
    ("threshold", "code", "said"),
    [("p50 > 20s", 0, "ok"), ("p50 > 1ms", 1, "FAIL"), ("p99.9 > 20s", 1, "cannot say")],
)
def test_thresholds_make_the_exit_code(
    server: SimulatorProcess, environ: dict[str, str], threshold: str, code: int, said: str
) -> None:
    """Broken and undecided thresholds end with 1; standard output is JSON alone."""
    done = run(
        environ, "load", server.url, "--users", "2", "--duration", "1s", "--json", "--fail-if", threshold
    )

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert msgspec.json.decode(done.stdout, type=Summary).counts.ok > 10


def test_ctrl_c_shows_what_there_is(server: SimulatorProcess, environ: dict[str, str]) -> None:
    """After Ctrl-C the partial result is printed, and what was cut is no error."""
    command = [
        sys.executable,
        "-m",
        "slipstream",
        "load",
        server.url,
        "--users",
        "2",
        "--duration",
        "60s",
        "--json",
    ]
    with subprocess.Popen(
        command,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        assert "sent" in process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all that it started
        output, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    summary = msgspec.json.decode(output, type=Summary)
    assert summary.stopped == "requested"
    assert summary.counts.ok > 0
    assert summary.counts.errors == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["http://127.0.0.1:1", "--duration", "0.5s"], 1, "connect_refused"),
        (["--duration", "1s"], 1, "No server is live"),
        (["http://127.0.0.1:1", "--duration", "soon"], 2, "soon"),
        (["http://127.0.0.1:1", "--ramp-up", "1m"], 1, "contradicts itself"),
        (["http://127.0.0.1:1", "--fail-if", "p42 > 3ms"], 1, "no figure"),
        (["http://127.0.0.1:1", "--key-env", "NO_SUCH_KEY"], 2, "NO_SUCH_KEY"),
        (["http://127.0.0.1:1", "--header", "x"], 2, "NAME:VALUE"),
        (["http://127.0.0.1:1", "--slo", "speed<3"], 1, "no objective"),
        (["http://127.0.0.1:1", "--html", "/nowhere/r.html"], 2, "cannot be written"),
        (["http://127.0.0.1:1", "--dialect", "http", "--body", "@/nowhere"], 2, "cannot be read"),
        (["--dialect", "anthropic"], 2, "need a URL"),
        (["ftp://127.0.0.1"], 1, "Write it like http://127.0.0.1:8000."),
        (["show", "nothing"], 1, "load list"),
        (["compare", "http://127.0.0.1:1", "http://127.0.0.1:1", "--figure", "errors"], 1, "no figure"),
    ],
)
def test_mistakes_are_one_clear_line(
    environ: dict[str, str], arguments: list[str], code: int, said: str
) -> None:
    """What is wrong and what to write; never a traceback."""
    done = run(environ, "load", *arguments)

    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_compare_tells_by_its_exit_code(environ: dict[str, str]) -> None:
    """A server that is much slower is a FAIL: exit code 1, both figures of each round on standard error."""
    with start_simulator(Simulated(ttft_ms=80)) as fast, start_simulator(Simulated(ttft_ms=320)) as slow:
        done = run(environ, "load", "compare", fast.url, slow.url, "--rounds", "3", "--round", "0.5s")

    assert done.returncode == 1, done.stderr
    assert "FAIL: B is more than 10% worse" in done.stdout
    assert done.stderr.count("round") >= 3


def test_recorded_traffic(server: SimulatorProcess, environ: dict[str, str], tmp_path: Path) -> None:
    """A trace is played whole, at the speed that was asked for."""
    trace = tmp_path / "trace.csv"
    rows = [f"2023-11-16 18:15:0{i // 10}.{i % 10}00000,{10 + i},5" for i in range(40)]
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    done = run(environ, "replay", str(trace), server.url, "--speed", "4", "--json")

    assert done.returncode == 0, done.stderr
    summary = msgspec.json.decode(done.stdout, type=Summary)
    assert summary.counts.ok == 40
    assert summary.tokens.output == 200
    trace.write_text("a,b\n1,2\n")
    wrong = run(environ, "replay", str(trace), server.url)
    assert wrong.returncode == 1
    assert "line 1" in wrong.stderr


@pytest.mark.long
def test_a_limit_is_told(server: SimulatorProcess, environ: dict[str, str]) -> None:
    """Up to the users that were allowed there is no limit; each probe is a line on standard error."""
    command = [sys.executable, "-m", "slipstream", "stress", server.url, "--users-max", "4", "--soak", "0s"]
    command += ["--slo", "response<60s"]  # which no other work on this machine breaks
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == 0, done.stderr
    assert "none up to 4 users" in done.stdout
    assert done.stderr.count(" users ") == 3


@pytest.mark.long
def test_a_search_is_kept_and_has_a_page(
    server: SimulatorProcess, environ: dict[str, str], tmp_path: Path
) -> None:
    """A search is stored under its id, and told again: as text, as JSON, as a page with its probes."""
    page = tmp_path / "limit.html"
    done = run(
        environ,
        "stress",
        server.url,
        "--users-max",
        "2",
        "--soak",
        "0s",
        "--round",
        "0.5s",
        "--slo",
        "response<60s",
        "--html",
        str(page),
    )
    assert done.returncode == 0, done.stderr
    name = done.stdout.rpartition("stored as ")[2].strip()
    assert name in run(environ, "stress", "list").stdout
    again = run(environ, "stress", "show", name, "--json")
    found = msgspec.json.decode(again.stdout, type=Limit)

    assert (found.id, found.users, found.target) == (name, 2, server.url)
    assert run(environ, "stress", "show").stdout == done.stdout
    assert "Requests per second by users" in page.read_text()
    assert run(environ, "stress", "show", "2001").returncode == 1


@pytest.mark.long
def test_ctrl_c_ends_a_search(server: SimulatorProcess, environ: dict[str, str]) -> None:
    """What is known when it is stopped is told."""
    command = [sys.executable, "-m", "slipstream", "stress", server.url, "--json"]
    with subprocess.Popen(
        command,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        assert "1 users" in process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all that it started
        started = time.monotonic()
        output, errors = process.communicate(timeout=60)

    assert "Traceback" not in errors
    assert msgspec.json.decode(output)["stopped"] == "requested", errors
    assert time.monotonic() - started < 60


@pytest.mark.long
def test_selftest_tells_by_its_exit_code(environ: dict[str, str]) -> None:
    """It ends with 0 where no percentile is more than 2 % off; else with 3 on a machine too busy to tell, or 1."""
    done = run(environ, "load", "selftest", "--duration", "5s", "--json")
    oracles = msgspec.json.decode(done.stdout)["oracles"]
    errors = [each["error"] for oracle in oracles for each in oracle["percentiles"]]

    assert len(errors) == 10
    assert sum(oracle["failed"] for oracle in oracles) == 0
    assert (done.returncode == 0) is (max(errors) <= 0.02), done.stdout
    assert done.returncode in {0, 1, 3}
