"""Claim: a metric update costs at most half of prometheus_client's, a whole request's metrics about 4 us.

Load: one counter with a label, one histogram with a label, and the updates of a whole streamed request, each
by us, by prometheus_client (children cached, 14 buckets) and by the OpenTelemetry SDK (attributes given each
time, as its API asks). All in one process, interleaved by rounds, CPU time of the thread, medians. Each side
writes where another process could read it, or in its own memory where it has no such thing: our slab is
shared; prometheus_client is measured in both modes, the shared one in a process of its own.
Peers come from PyPI into an environment under $SLIPSTREAM_BENCH_CACHE.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gateway_peers import environment

from slipstream.core.meters import Counters
from slipstream.core.record import Record, Step
from slipstream.monitoring.meter import Meter, attach
from slipstream.monitoring.recorder import RequestRecorder
from slipstream.monitoring.slab import claim, make_slab
from slipstream.monitoring.slab_reader import SlabReader

RESULT = Path(__file__).parent / "results" / "metrics.json"
CACHE = Path(os.environ.get("SLIPSTREAM_BENCH_CACHE", Path(tempfile.gettempdir()) / "slipstream-bench"))
PEERS = ("prometheus-client==0.26.0", "opentelemetry-sdk==1.45.2")
ROUNDS, UPDATES, REQUESTS = 9, 50_000, 10_000
BUCKETS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
MS = 1_000_000
Update = Callable[[], None]


def record() -> Record:
    names = ("admit", "read", "select", "open", "first_byte", "relay")
    steps = [Step(name, at * 10 * MS, 9 * MS) for at, name in enumerate(names)]
    return Record(
        id="req_x", route="chat", model="m", upstream="u", outcome="served", duration_ns=123 * MS,
        first_token_ns=57 * MS, chunk_gap_mean_ns=3 * MS, prompt_tokens=812, output_tokens=164, cached_tokens=64,
        request_bytes=3000, response_bytes=9000, cost=0.002, steps=steps,
    )  # fmt: skip


def ours(folder: Path) -> tuple[dict[str, Update], SlabReader]:
    file = make_slab(folder / "slab", 1)
    slab = claim(folder / "slab")
    counters, meter, requests, finished = Counters(), Meter(slab), RequestRecorder(slab), record()
    attach(counters, slab)
    ttft = meter.adder("ttft", "m")
    return {
        "counter": lambda: counters.count("requests"),
        "histogram": lambda: ttft(57 * MS),
        "by_name": lambda: meter.observe("ttft", 57.0, "m"),
        "request": lambda: requests.finish(finished),
    }, SlabReader(file)


def prometheus() -> dict[str, Update]:
    import prometheus_client as prom

    registry = prom.CollectorRegistry()

    def counter(name: str, *labels: str) -> object:
        made = prom.Counter(name, name, [f"l{at}" for at in range(len(labels))], registry=registry)
        return made.labels(*labels) if labels else made

    def histogram(name: str, *labels: str) -> object:
        names = [f"l{at}" for at in range(len(labels))]
        made = prom.Histogram(name, name, names, buckets=BUCKETS, registry=registry)
        return made.labels(*labels) if labels else made

    one, many = counter("one", "m"), histogram("many", "m")
    counts = [counter("requests", "chat", "m", "u"), counter("outcomes", "served"), counter("bytes_in"),
              counter("bytes_out"), counter("tokens_in", "m"), counter("tokens_out", "m"),
              counter("tokens_cached", "m"), counter("cost", "m")]  # fmt: skip
    times = [histogram("response_time", "gateway", "m"), histogram("ttft", "m"), histogram("itl", "m"),
             histogram("upstream_time", "u"), histogram("overhead"), histogram("prompt_length", "m"),
             histogram("answer_length", "m")]  # fmt: skip

    def request() -> None:
        for each in counts:
            each.inc(5)  # type: ignore[attr-defined]
        for each in times:
            each.observe(0.057)  # type: ignore[attr-defined]

    return {
        "counter": lambda: one.inc(),  # type: ignore[attr-defined]
        "histogram": lambda: many.observe(0.057),  # type: ignore[attr-defined]
        "request": request,
    }


def opentelemetry() -> dict[str, Update]:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    meter = MeterProvider([InMemoryMetricReader()]).get_meter("bench")
    counts = [meter.create_counter(f"c{at}") for at in range(8)]
    times = [meter.create_histogram(f"h{at}", explicit_bucket_boundaries_advisory=BUCKETS) for at in range(7)]
    labels = {"model": "m", "upstream": "u", "route": "chat"}

    def request() -> None:
        for each in counts:
            each.add(5, labels)
        for each in times:
            each.record(0.057, labels)

    return {
        "counter": lambda: counts[0].add(1, labels),
        "histogram": lambda: times[0].record(0.057, labels),
        "request": request,
    }


def ns_each(update: Update, times: int) -> float:
    begin = time.thread_time_ns()
    for _ in range(times):
        update()
    return (time.thread_time_ns() - begin) / times


def round_of(updates: dict[str, Update]) -> dict[str, float]:
    return {
        name: ns_each(update, REQUESTS if name == "request" else UPDATES) for name, update in updates.items()
    }


def shared_prometheus(packages: Path) -> dict[str, float]:
    """prometheus_client with its files for several processes; it reads the variable when imported."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, "child", str(packages)], capture_output=True, text=True, check=True,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder},
        )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def look_us(reader: SlabReader, updates: dict[str, Update]) -> float:
    """One look of the reader at a slab in which a request has changed every series."""
    taken = []
    for _ in range(200):
        updates["request"]()
        begin = time.thread_time_ns()
        list(reader.changes())
        taken.append((time.thread_time_ns() - begin) / 1000)
    return statistics.median(taken)


def main() -> None:
    packages = (
        environment(CACHE, *PEERS).parent / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    )
    sys.path.append(str(packages))
    rounds: dict[str, list[dict[str, float]]] = {
        "ours": [],
        "prometheus": [],
        "prometheus_shared": [],
        "otel": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        mine, reader = ours(Path(folder))
        sides = {"ours": mine, "prometheus": prometheus(), "otel": opentelemetry()}
        for updates in sides.values():
            round_of(updates)
        for _ in range(ROUNDS):
            for side, updates in sides.items():
                rounds[side].append(round_of(updates))
            rounds["prometheus_shared"].append(shared_prometheus(packages))
        look = look_us(reader, mine)
    kinds = ("counter", "histogram", "request")
    by_name = statistics.median(each["by_name"] for each in rounds["ours"])
    medians = {
        side: {kind: round(statistics.median(r[kind] for r in each)) for kind in kinds}
        for side, each in rounds.items()
    }
    ratios = {
        side: {kind: round(statistics.median(o[kind] / p[kind] for o, p in zip(rounds["ours"], each, strict=True)), 3) for kind in kinds}
        for side, each in rounds.items() if side != "ours"
    }  # fmt: skip
    result = {
        "claim": "metrics: a shared update at most half of prometheus_client's private one; a request about 4 us",
        "ns_each": medians,
        "ours_over_peer": ratios,
        "ours_histogram_by_name_ns": round(by_name),
        "look_at_a_slab_us": round(look),
        "holds": ratios["prometheus"]["counter"] <= 0.5 and ratios["prometheus"]["histogram"] <= 0.5,
        "rounds": {
            side: [{kind: round(r[kind]) for kind in kinds} for r in each] for side, each in rounds.items()
        },
        "peers": PEERS,
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: value for name, value in result.items() if name != "rounds"}, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        sys.path.append(sys.argv[2])
        print(json.dumps(round_of(prometheus())))
    else:
        main()
