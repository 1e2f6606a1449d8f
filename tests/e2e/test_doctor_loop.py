"""`slipstream doctor` beside a real server and real upstreams: named, predicted, applied, verified, recorded."""

import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.serving import Serving, serving
from faults.rig import backstage
from slipstream.config.live import LiveServer
from slipstream.config.settings import Simulated
from slipstream.doctor.driver import drive
from slipstream.doctor.replay_model import Asked
from slipstream.testing.simulator import run_simulator

FAST = Simulated(ttft_ms=120, itl_ms=10, spread=0.2, seed=1)
SLOW = Simulated(ttft_ms=400, itl_ms=40, spread=0.2, seed=2)


def load(server: Serving, seconds: float, rate: float) -> None:
    """Requests at Poisson arrivals, all of which are answered and recorded."""
    rng = random.Random(3)
    at, asked = 0.0, []
    while at < seconds:
        at += rng.expovariate(rate)
        asked.append(Asked(at, "m", rng.randint(5, 300), rng.randint(10, 40), True))
    met = asyncio.run(drive(LiveServer(0, server.url, "", server.token, 0, "", ""), asked))
    assert all(each.is_served for each in met)
    time.sleep(0.5)  # the last records are committed


def doctor(server: Serving, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "slipstream", "doctor", "--json", *arguments],
        cwd=server.folder, env=server.environ, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def upstream(name: str, url: str, more: str = "") -> str:
    return f'[models.upstreams.{name}]\nurl = "{url}/v1"\nmodels = ["m"]\n{more}\n'


@pytest.mark.long
def test_too_few_connections_are_named_and_a_healthy_server_is_not(tmp_path: Path) -> None:
    """Waits for a connection are steps of the records: the cap is the first cause, and predicted."""
    with backstage() as stage:
        simulator = stage.open(run_simulator(FAST))
        file = tmp_path / "slipstream.toml"
        file.write_text(upstream("a", simulator.url), "utf-8")
        with serving(tmp_path) as server:
            load(server, 6, 10)
            well = doctor(server, "--since", "5m")
        file.write_text(upstream("a", simulator.url, "connections = 3"), "utf-8")
        with serving(tmp_path, SLIPSTREAM__DATA_FOLDER=str(tmp_path / "other")) as server:
            load(server, 8, 10)
            ill = doctor(server, "--since", "5m")

    named = {each["finding"]["check"] for each in well["causes"]}  # type: ignore[attr-defined]
    assert named <= {"blocked_loop"}, well  # a crowded test machine may really hold the loop
    first = ill["causes"][0]  # type: ignore[index]
    assert (first["finding"]["check"], first["finding"]["subject"]) == ("small_cap", "a")
    assert first["advice"]["fix"]["setting"] == "models.upstreams.a.connections"
    assert first["advice"]["prediction"]["gain"] > 0
