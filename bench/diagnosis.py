"""How much faster than real time a whole diagnosis is: checks, and every replay that its predictions take.

    python bench/diagnosis.py [--keep] [--beside SRC]

The traffic is made by the real way on virtual time, before three upstreams of which one is slow: two fixes are tried,
the better one is predicted with all its replays. The peer is the traffic itself: seconds it took over CPU seconds of
the diagnosis (one process that does nothing but compute). `--beside` diagnoses the same records with another source
tree too, in turn; each run is a process of its own. Medians.
"""

import argparse
import hashlib
import json
import os
import pickle
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
RESULTS = HERE.parent / "results" / "diagnosis.json"
ROUNDS = 3
REQUESTS = 1_500
RATES = (1, 5, 20)


def recorded(rate: float) -> bytes:
    """Records and settings, packed."""
    from msgspec.structs import replace

    from slipstream.config.settings import Models, Settings, Upstream
    from slipstream.core.pool import PoolLimits
    from slipstream.doctor.refusals import NEVER
    from slipstream.doctor.replay import Traffic, replay
    from slipstream.doctor.replay_model import Asked, Served
    from slipstream.doctor.service_model import Line, ServiceModel

    rng = random.Random(1)
    luck = tuple(rng.lognormvariate(0, 0.3) for _ in range(500))
    limits = PoolLimits(256, 1024, 10**10, 10**15, 10**15)

    def upstream(slow: float) -> Served:
        first, pace = Line((0.3 * slow, 1e-4, 0.005), luck), Line((0.02 * slow, 1e-4), luck)
        return Served(ServiceModel(first, pace, None, 200, 500), NEVER, limits)

    at, asked = 0.0, []
    for _ in range(REQUESTS):
        at += rng.expovariate(rate)
        asked.append(Asked(at, "m", rng.randint(10, 2000), rng.randint(10, 200), rng.random() < 0.8))
    served = {"a": upstream(1.0), "b": upstream(1.0), "c": upstream(3.0)}
    known = {name: Upstream(url="http://127.0.0.1:1", models=("m",)) for name in served}
    settings = Settings(models=Models(upstreams=known))
    done = replay(Traffic(tuple(asked), served, dict.fromkeys(served, ("m",)), (), 200e-6), settings)
    start_ns = 1_700_000_000 * 10**9
    return pickle.dumps(
        ([replace(each, arrived_wall_ns=each.arrived_wall_ns + start_ns) for each in done.records], settings)
    )


def once(path: Path) -> dict[str, object]:
    """One diagnosis, in this process."""
    import msgspec

    from slipstream.doctor.diagnosis import diagnose
    from slipstream.doctor.evidence import gather

    records, settings = pickle.loads(path.read_bytes())
    started = time.process_time()
    evidence = gather(records, settings)
    found = diagnose(evidence)
    spent = time.process_time() - started
    said = hashlib.sha256(msgspec.json.encode(found, order="deterministic")).hexdigest()[:16]
    return {"cpu": spent, "traffic": evidence.seconds, "said": said, "cause": found.verdict}


def run(source: Path, path: Path) -> dict[str, object]:
    environ = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(
        [sys.executable, str(HERE), "--once", str(path)], env=environ, capture_output=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--beside", type=Path, help="the source folder of another version")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(once(given.once)))
        return
    own = HERE.parents[1] / "src"
    sources = {"this": own, **({"beside": given.beside.resolve()} if given.beside else {})}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for rate in RATES:
            path = Path(folder) / f"{rate}"
            path.write_bytes(recorded(rate))
            met: dict[str, list[dict[str, object]]] = {name: [] for name in sources}
            for _ in range(ROUNDS):
                for name, source in sources.items():
                    met[name].append(run(source, path))
            assert len({each["said"] for runs in met.values() for each in runs}) == 1, (
                "they say different things"
            )
            row = {"requests_per_second": rate, "traffic_seconds": round(met["this"][0]["traffic"])}
            for name, runs in met.items():
                cpu = statistics.median(each["cpu"] for each in runs)
                row[name] = {"cpu_seconds": round(cpu, 2), "times_real_time": round(runs[0]["traffic"] / cpu)}
            rows.append(row | {"said": met["this"][0]["cause"]})
    report = {"requests": REQUESTS, "rounds": ROUNDS, "rows": rows}
    print(json.dumps(report, indent=2))
    if given.keep:
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
