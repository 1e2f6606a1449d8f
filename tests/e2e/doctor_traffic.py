"""A real server before two simulated upstreams, under traffic that the doctor can judge."""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from e2e.serving import Serving, serving
from faults.rig import backstage
from slipstream.config.live import LiveServer
from slipstream.config.settings import Simulated
from slipstream.doctor.driver import drive
from slipstream.doctor.replay_model import Asked
from slipstream.testing.simulator import run_simulator

SETTINGS = {"SLIPSTREAM__MODELS__LOCAL__ENABLED": "off", "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off"}


@contextlib.contextmanager
def two_upstreams(
    folder: Path,
    *,
    ttft_ms: int = 60,
    east_itl_ms: int = 4,
    west_itl_ms: int = 4,
    keys: str = "auto",
    more: str = "",
) -> Iterator[Serving]:
    """A server before `east` and `west`, each with so many ms from one token to the next; `more` settings.

    One that is slow to its first token is avoided by the gateway itself; one that is slow after it is not.
    """
    with backstage() as stage:
        text = more
        for seed, (name, itl_ms) in enumerate({"east": east_itl_ms, "west": west_itl_ms}.items(), 1):
            answers = Simulated(ttft_ms=ttft_ms, itl_ms=itl_ms, spread=0.2, seed=seed)
            url = stage.open(run_simulator(answers)).url
            text += f'[models.upstreams.{name}]\nurl = "{url}/v1"\nmodels = ["m"]\n\n'
        (folder / "slipstream.toml").write_text(text, "utf-8")
        with serving(folder, **SETTINGS, SLIPSTREAM__KEYS__REQUIRED=keys) as server:
            yield server


def traffic(server: Serving, count: int, rate: float) -> None:
    """Requests at Poisson arrivals, all answered, and recorded when this returns."""
    chance = random.Random(3)
    at, asked = 0.0, []
    for _ in range(count):
        at += chance.expovariate(rate)
        asked.append(Asked(at, "m", chance.randint(5, 60), chance.randint(8, 20), True))
    live = LiveServer(0, server.url, "", server.token, 0, "", "")
    with ThreadPoolExecutor(1) as beside:  # a browser under test may hold this thread's event loop
        met = beside.submit(lambda: asyncio.run(drive(live, asked))).result()
    assert all(each.is_served for each in met)
    deadline = time.monotonic() + 60
    while len(server.json("/_slipstream/requests?limit=500")["data"]) < min(count, 500):  # type: ignore[arg-type]
        assert time.monotonic() < deadline
        time.sleep(0.1)
