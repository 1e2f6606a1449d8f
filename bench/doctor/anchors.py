"""Live anchors of the doctor's benchmark: real servers, real sockets, real upstream processes' code.

    python bench/doctor/anchors.py [--keep]

Each fault is planted in a running server and driven for half a minute; the doctor is asked as a user asks it.
Results are kept in bench/results/doctor_live.json.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from e2e.serving import Serving, serving  # noqa: E402
from faults.rig import backstage  # noqa: E402
from slipstream.config.live import LiveServer  # noqa: E402
from slipstream.config.settings import Simulated  # noqa: E402
from slipstream.doctor.driver import drive  # noqa: E402
from slipstream.doctor.replay_model import Asked  # noqa: E402
from slipstream.testing.simulator import run_simulator  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "doctor_live.json"
HOLD = "import signal, time\ndef hold_the_loop(*_):\n    time.sleep(0.5)\nsignal.signal(signal.SIGUSR2, hold_the_loop)\n"
FAST = Simulated(ttft_ms=150, itl_ms=12, spread=0.2, seed=1)
SLOW = Simulated(ttft_ms=500, itl_ms=40, spread=0.2, seed=2)
SECONDS, RATE = 25.0, 12.0

CASES = {
    "healthy": ([FAST], "", {}),
    "healthy_pair": ([FAST, FAST], "", {}),
    "slow_upstream": ([FAST, SLOW], "", {}),
    "slow_one_of_three": ([FAST, FAST, SLOW], "", {}),
    "small_cap": ([FAST], "connections = 5", {}),
    "small_cap_of_two": ([FAST, FAST], "connections = 3", {}),
    "retry_storm": ([Simulated(ttft_ms=150, itl_ms=12, error_rate=0.4, seed=3)], "", {}),
    "blocked_loop": ([FAST], "", {"hold": True}),
    "blocked_loop_of_two": ([FAST, FAST], "", {"hold": True}),
    "starved_local": ([], "", {"local": True}),
}


def expected(case: str) -> str:
    return next(
        (
            f
            for f in ("slow", "small_cap", "retry_storm", "blocked_loop", "starved_local")
            if case.startswith(f)
        ),
        "",
    )


def load(server: Serving, model: str, rate: float, tokens: int) -> None:
    rng = random.Random(3)
    at, asked = 0.0, []
    while at < SECONDS:
        at += rng.expovariate(rate)
        asked.append(Asked(at, model, rng.randint(5, 200), rng.randint(tokens // 2, tokens), True))
    asyncio.run(drive(LiveServer(0, server.url, "", server.token, 0, "", ""), asked))
    time.sleep(0.6)


@contextlib.contextmanager
def held(server: Serving, *, is_on: bool):
    """Twice a second the worker is told to block for half a second."""
    ended = threading.Event()

    def hold() -> None:
        pid = server.json("/_slipstream/status")["workers"][0]["pid"]
        while not ended.wait(1.0):
            os.kill(pid, signal.SIGUSR2)

    thread = threading.Thread(target=hold, daemon=True)
    if is_on:
        thread.start()
    yield
    ended.set()
    if is_on:
        thread.join(5)


def run(case: str) -> dict[str, object]:
    scripts, more, options = CASES[case]
    folder = Path(tempfile.mkdtemp(prefix="anchor-"))
    variables = {"PYTHONPATH": f"{ROOT / 'src'}"}
    text = ""
    model, rate, tokens = "m", RATE, 30
    if options.get("hold"):
        (folder / "sitecustomize.py").write_text(HOLD)
        variables["PYTHONPATH"] += os.pathsep + str(folder)
    if options.get("local"):
        text, model, rate, tokens = '[models.local]\nenabled = "on"\nslots = 1\n', "", 2.5, 24
    with backstage() as stage:
        for at, script in enumerate(scripts):
            url = stage.open(run_simulator(script)).url
            text += f'[models.upstreams.up{at}]\nurl = "{url}/v1"\nmodels = ["m"]\n{more}\n'
        (folder / "slipstream.toml").write_text(text)
        with serving(folder, **variables) as server:
            with held(server, is_on=bool(options.get("hold"))):
                load(server, model, rate, tokens)
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "slipstream", "doctor", "--json", "--since", "10m"],
                cwd=folder, env=server.environ, capture_output=True, text=True, timeout=120, check=True,
            )  # fmt: skip
    found = json.loads(done.stdout)
    causes = [
        (each["finding"]["check"], each["finding"]["subject"], each["finding"]["share"])
        for each in found["causes"]
    ]
    named = causes[0][0] if causes else ""
    told = (found["causes"][0]["advice"] or {}).get("prediction") if causes else None
    return {
        "case": case,
        "right": named.startswith(expected(case)) if expected(case) else named == "",
        "causes": causes,
        "replay_error": told["replay_error"] if told else None,
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--cases", default=",".join(CASES))
    given = parser.parse_args()
    rows = []
    for case in given.cases.split(","):
        rows.append(run(case))
        print(json.dumps(rows[-1]), flush=True)
    report = {"right": sum(bool(row["right"]) for row in rows), "of": len(rows), "rows": rows}
    if given.keep:
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
