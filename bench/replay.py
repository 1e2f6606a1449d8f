"""How much faster than real time recorded traffic is replayed through the real way on virtual time.

    python bench/replay.py [--keep]

The peer is the traffic itself: seconds it took, over CPU seconds its replay takes (one process, which does nothing
but compute, so that what else runs on the machine does not matter). Rounds in turn, medians.
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path

from slipstream.config.settings import Models, Settings, Upstream
from slipstream.core.pool import PoolLimits
from slipstream.doctor.refusals import NEVER
from slipstream.doctor.replay import Traffic, replay
from slipstream.doctor.replay_model import Asked, Served
from slipstream.doctor.service_model import Line, ServiceModel

RESULTS = Path(__file__).parent / "results" / "replay.json"
ROUNDS = 3
REQUESTS = 3_000
RATES = (1, 5, 20)
BUDGET = 50.0


def traffic(rate: float) -> Traffic:
    rng = random.Random(1)
    luck = tuple(rng.lognormvariate(0, 0.3) for _ in range(500))
    times = ServiceModel(Line((0.3, 1e-4, 0.005), luck), Line((0.02, 1e-4), luck), None, 200, 500)
    limits = PoolLimits(256, 1024, 10**10, 10**15, 10**15)
    at, asked = 0.0, []
    for _ in range(REQUESTS):
        at += rng.expovariate(rate)
        asked.append(Asked(at, "m", rng.randint(10, 2000), rng.randint(10, 400), rng.random() < 0.8))
    names = ("a", "b", "c")
    served = {name: Served(times, NEVER, limits) for name in names}
    return Traffic(tuple(asked), served, dict.fromkeys(names, ("m",)), (), 200e-6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    known = {name: Upstream(url="http://127.0.0.1:1", models=("m",)) for name in ("a", "b", "c")}
    settings = Settings(models=Models(upstreams=known))
    played = {rate: traffic(rate) for rate in RATES}
    walls: dict[int, list[float]] = {rate: [] for rate in RATES}
    for number in range(ROUNDS):
        for rate, each in played.items():
            started = time.process_time()
            done = replay(each, settings, seed=number)
            walls[rate].append(time.process_time() - started)
            assert all(record.outcome == "served" for record in done.records)
    rows = [
        {
            "requests_per_second": rate,
            "traffic_seconds": round(played[rate].asked[-1].at),
            "replay_cpu_seconds": round(statistics.median(walls[rate]), 2),
            "cpu_us_per_request": round(1e6 * statistics.median(walls[rate]) / REQUESTS),
            "times_real_time": round(played[rate].asked[-1].at / statistics.median(walls[rate])),
        }
        for rate in RATES
    ]
    report = {"requests": REQUESTS, "rounds": ROUNDS, "budget_times_real_time": BUDGET, "rows": rows}
    print(json.dumps(report, indent=2))
    if given.keep:
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
