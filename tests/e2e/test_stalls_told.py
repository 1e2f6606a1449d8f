"""A worker whose event loop is held tells which line held it; the doctor is given it."""

import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from e2e.serving import Serving, serving
from slipstream.core.stalls import StallSeen
from slipstream.server.renewal import DoctorView

HOLD = """
import signal, time

def hold_the_loop(*_):
    time.sleep(0.4)

signal.signal(signal.SIGUSR2, hold_the_loop)
"""
"""What the interpreter of a worker loads at its start: code of somebody that blocks when told to."""


def stalls(server: Serving) -> tuple[StallSeen, ...]:
    return msgspec.convert(server.json("/_slipstream/doctor"), DoctorView).stalls


@pytest.fixture
def with_blocker(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "sitecustomize.py").write_text(HOLD, "utf-8")
    (tmp_path / "slipstream.toml").write_text("[models.simulated.sim]\n", "utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


def worker_of(server: Serving) -> int:
    workers = server.json("/_slipstream/status")["workers"]
    return workers[0]["pid"]  # type: ignore[index, no-any-return]


def test_the_line_that_held_the_loop_is_told(tmp_path: Path, with_blocker: dict[str, str]) -> None:
    """Function, file and line, how long, and which worker."""
    with serving(tmp_path, **with_blocker) as server:
        time.sleep(0.5)
        before = time.time_ns()
        os.kill(worker_of(server), signal.SIGUSR2)
        deadline = time.monotonic() + 10
        while not (found := [each for each in stalls(server) if "hold_the_loop" in each.place]):
            assert time.monotonic() < deadline, stalls(server)
            time.sleep(0.1)

    (stall,) = found
    assert "sitecustomize.py:5" in stall.place
    assert stall.seconds > 0.2
    assert stall.slot == 0
    assert stall.wall_ns > before


def test_nobody_watches_where_that_is_switched_off(tmp_path: Path, with_blocker: dict[str, str]) -> None:
    """`profiling.stalls = false`: no watch, nothing told."""
    with serving(tmp_path, SLIPSTREAM__PROFILING__STALLS="false", **with_blocker) as server:
        os.kill(worker_of(server), signal.SIGUSR2)
        time.sleep(1.0)
        assert stalls(server) == ()
