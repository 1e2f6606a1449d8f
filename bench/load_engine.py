"""What the load engine can send, what it costs, and whether its percentiles are right, beside wrk, hey and Locust.

    SLIPSTREAM_BENCH_CACHE=~/.cache/slipstream-bench python bench/load_engine.py [--seconds 4] [--rounds 3]

Needs Linux and two cores; wrk and hey come from the system, Locust from PyPI into an environment of its own under
the cache. A peer that is not there is left out, and the result says so. The mock (`floor_mock`) runs on core 0, the
driver on core 1; rounds are interleaved, medians kept. Where the driver kept its core busy its rate is its limit;
where not, the mock's, and CPU time a request says more. `--fifo` runs both under the real-time scheduler, so that other
work on the machine does not spoil the figures.
"""

import argparse
import asyncio
import csv
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
from gateway_peers import environment

from slipstream.testing.floor_process import child
from slipstream.testing.load.engine import run
from slipstream.testing.load.plan import SECOND, Lengths, Plan, TrafficSpec, arrivals
from slipstream.testing.load.run import RunOptions, RunResult
from slipstream.testing.load.selftest import RANKS, RATE_FROZEN, frozen_script, selftest
from slipstream.testing.load.target import Target
from slipstream.testing.load.truths import of_frozen_server

RESULTS = Path(__file__).parent / "results" / "load_engine.json"
BODY = '{"model":"m","messages":[{"role":"user","content":"What is the capital of France?"}],"max_tokens":16}'
PATH = "/v1/chat/completions"
USERS = 64
LOCUST = "locust==2.47.0"
LOCUSTFILE = f"""
from locust import FastHttpUser, constant_throughput, task

class User(FastHttpUser):
    wait_time = WAIT

    @task
    def ask(self):
        self.client.post("{PATH}", data={BODY!r}, headers={{"content-type": "application/json"}})
"""
Row = dict[str, object]


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def pinned(*command: str) -> list[str]:
    return ["taskset", "-c", "1", *command]


def locust() -> str | None:
    """Locust's command, installed into the cache if there is one."""
    cache = os.environ.get("SLIPSTREAM_BENCH_CACHE")
    if not cache:
        return None
    return str(environment(Path(cache).expanduser(), LOCUST) / "locust")


def measured(command: list[str], seconds: float, count: "re.Pattern[str]") -> Row:
    """Run a driver; its requests by `count` in what it prints, its CPU time by the kernel's books."""
    before = children_cpu()
    done = subprocess.run(pinned(*command), capture_output=True, text=True, timeout=seconds + 60, check=False)
    cpu = children_cpu() - before
    found = count.search(done.stdout + done.stderr)
    assert found is not None, done.stdout + done.stderr
    requests = int(found[1].replace(",", ""))
    return {"requests_per_second": requests / seconds, "cpu_us": cpu / requests * 1e6, "busy": cpu / seconds}


def wrk(port: int, seconds: int, body: Path) -> Row | None:
    if not shutil.which("wrk"):
        return None
    script = body.with_suffix(".lua")
    script.write_text(
        f'wrk.method="POST"\nwrk.headers["Content-Type"]="application/json"\nwrk.body=[[{BODY}]]\n'
    )
    url = f"http://127.0.0.1:{port}{PATH}"
    command = ["wrk", "-t1", f"-c{USERS}", f"-d{seconds}", "-s", str(script), url]
    return measured(command, seconds, re.compile(r"(\d+) requests in"))


def hey(port: int, seconds: int, body: Path) -> Row | None:
    if not shutil.which("hey"):
        return None
    url = f"http://127.0.0.1:{port}{PATH}"
    command = [
        "hey",
        "-z",
        f"{seconds}s",
        "-c",
        str(USERS),
        "-m",
        "POST",
        "-T",
        "application/json",
        "-D",
        str(body),
        url,
    ]
    return measured(command, seconds, re.compile(r"\[200\]\s+(\d+) responses"))


def locust_closed(port: int, seconds: int, body: Path) -> Row | None:
    command = locust()
    if command is None:
        return None
    script = body.with_suffix(".py")
    script.write_text(LOCUSTFILE.replace("WAIT", "lambda self: 0"))
    line = [command, "-f", str(script), "--headless", "-u", str(USERS), "-r", str(USERS)]
    line += ["-t", f"{seconds}s", "-H", f"http://127.0.0.1:{port}", "--only-summary"]
    return measured(line, seconds, re.compile(r"Aggregated\s+(\d+)"))


def engine_row(result: RunResult) -> Row:
    good = int(np.count_nonzero(result.samples.ok))
    assert good == len(result.samples), "all were answered"
    seconds = result.plan_ns / SECOND
    busy = result.meters.cpu_shares[0]
    return {"requests_per_second": good / seconds, "cpu_us": busy * seconds / good * 1e6, "busy": busy}


def ours(port: int, seconds: float, *, streaming: bool = False, users: int = USERS) -> RunResult:
    target = Target(url=f"http://127.0.0.1:{port}", model="m", streaming=streaming)
    plan = Plan(users=users, duration_seconds=seconds, traffic=TrafficSpec(prompt_tokens=Lengths(mean=24)))
    return asyncio.run(run(plan, target, options=RunOptions(workers=1, cores=(1,))))


def throughput(port: int, seconds: int, rounds: int) -> list[Row]:
    rows: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_text(BODY)
        for _ in range(rounds):
            rows.setdefault("slipstream", []).append(engine_row(ours(port, seconds)))
            for name, drive in (("wrk", wrk), ("hey", hey), ("locust", locust_closed)):
                row = drive(port, seconds, body)
                if row is not None:
                    rows.setdefault(name, []).append(row)
    return [{"who": name, **medians(each)} for name, each in rows.items()]


def medians(rows: list[Row]) -> Row:
    return {key: round(statistics.median(float(str(row[key])) for row in rows), 3) for key in rows[0]}


def streams(port: int, seconds: int, rounds: int) -> Row:
    """Chunks a second of streamed answers: 64 chunks each, each in a write of its own."""
    rows = []
    for _ in range(rounds):
        result = ours(port, seconds, streaming=True)
        chunks = int(result.samples.chunks.sum())
        busy = result.meters.cpu_shares[0]
        row: Row = {"chunks_per_second": chunks / result.plan_ns * SECOND, "busy": busy}
        row["cpu_us_a_chunk"] = busy * result.plan_ns / 1e3 / chunks
        rows.append(row)
    return medians(rows)


def pacing(port: int, seconds: float) -> Row:
    """Schedule lag of an open loop at 2,000 requests a second."""
    target = Target(url=f"http://127.0.0.1:{port}", model="m", streaming=False)
    plan = Plan(loop="poisson", rate=2000, duration_seconds=seconds)
    meters = asyncio.run(run(plan, target, options=RunOptions(workers=1, cores=(1,)))).meters
    return {
        "rate": 2000,
        "delivered_share": meters.delivered_share,
        "lag_ms_p50": round(meters.lag_p50_ns / 1e6, 4),
        "lag_ms_p99": round(meters.lag_p99_ns / 1e6, 4),
        "lag_ms_max": round(meters.lag_max_ns / 1e6, 4),
        "steal_share": meters.steal_share,
    }


def memory(port: int, requests: int) -> Row:
    """Largest proportional share of memory of the engine's processes over so many requests."""
    peak = {"engine": 0, "worker": 0}
    own = psutil.Process()

    def look(_: object) -> None:
        for name, processes in (("engine", [own]), ("worker", own.children())):
            for process in processes:
                if name == "engine" or "slipstream.testing.load.worker" in process.cmdline():
                    peak[name] = max(peak[name], process.memory_full_info().pss)

    async def main() -> RunResult:
        target = Target(url=f"http://127.0.0.1:{port}", model="m", streaming=False)
        plan = Plan(users=USERS, requests=requests, duration_seconds=240)
        options = RunOptions(workers=1, cores=(1,))
        return await run(plan, target, options=options, watch=look)

    before = own.memory_full_info().pss
    result = asyncio.run(main())
    assert len(result.samples) == requests
    seconds = result.duration_ns / SECOND
    return {
        "requests": requests,
        "seconds": round(seconds, 1),
        "requests_per_second": round(requests / seconds),
        "worker_pss_mb": round(peak["worker"] / 1e6, 1),
        "engine_pss_mb": round(peak["engine"] / 1e6, 1),
        "engine_pss_before_mb": round(before / 1e6, 1),
    }


def hey_frozen(port: int, seconds: float) -> list[float] | None:
    if not shutil.which("hey"):
        return None
    users = 4
    command = ["hey", "-z", f"{seconds:g}s", "-q", f"{RATE_FROZEN / users:g}", "-c", str(users), "-o", "csv"]
    done = subprocess.run([*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True)
    times = [float(row["response-time"]) * 1e3 for row in csv.DictReader(done.stdout.splitlines())]
    return np.percentile(times, RANKS).round(2).tolist()


def locust_frozen(port: int, seconds: float) -> list[float] | None:
    command = locust()
    if command is None:
        return None
    users = 10
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "file.py"
        script.write_text(LOCUSTFILE.replace("WAIT", f"constant_throughput({RATE_FROZEN / users:g})"))
        line = [command, "-f", str(script), "--headless", "-u", str(users), "-r", str(users)]
        line += ["-t", f"{seconds:g}s", "-H", f"http://127.0.0.1:{port}", "--csv", f"{folder}/out"]
        subprocess.run(line, capture_output=True, text=True, check=False, timeout=seconds + 60)
        total = list(csv.DictReader(Path(f"{folder}/out_stats.csv").read_text().splitlines()))[-1]
    return [float(total[f"{rank:g}%"]) for rank in RANKS]


async def frozen_peers(seconds: float) -> dict[str, list[float]]:
    """What hey and Locust say of the same frozen server."""
    script = json.dumps(
        {name: getattr(frozen_script(seconds), name) for name in frozen_script(1).__struct_fields__}
    )
    told: dict[str, list[float]] = {}
    for name, drive in (("hey", hey_frozen), ("locust", locust_frozen)):
        async with child("slipstream.testing.load.known_server", script) as server:
            answer = await asyncio.to_thread(drive, server.port, seconds)
        if answer is not None:
            told[name] = answer
    return told


def oracle(seconds: float) -> Row:
    """Percentiles under a frozen server against the truth."""
    report = asyncio.run(selftest(seconds=seconds, options=RunOptions(workers=1, cores=(1,))))
    script = frozen_script(seconds)
    times = arrivals(Plan(loop="constant", rate=RATE_FROZEN, duration_seconds=seconds))
    truth = of_frozen_server(
        times,
        service_ns=script.service_ns,
        freeze_after_ns=script.freeze_after_ns,
        freeze_ns=script.freeze_ns,
    )
    row: Row = {"ranks": RANKS, "truth_ms": (np.percentile(truth, RANKS) / 1e6).round(2).tolist()}
    for each in report.oracles:
        key = each.name.replace(" ", "_")
        row[f"slipstream_{key}_ms"] = [round(one.measured_ms, 2) for one in each.percentiles]
        row[f"slipstream_{key}_errors"] = [round(one.error, 5) for one in each.percentiles]
    for name, told in asyncio.run(frozen_peers(seconds)).items():
        row[f"{name}_ms"] = told
    return row


def machine() -> Row:
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=4)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument(
        "--requests", type=int, default=1_000_000, help="for the memory row; 0 leaves it out"
    )
    options.add_argument("--fifo", action="store_true", help="real-time scheduling")
    chosen = options.parse_args()
    if chosen.fifo:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    result: Row = {"machine": machine(), "fifo": chosen.fifo}
    command = [sys.executable, "-m", "slipstream.testing.floor_mock"]
    mock = subprocess.Popen(
        ["taskset", "-c", "0", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert mock.stdin is not None
    assert mock.stdout is not None
    try:
        port = int(mock.stdout.readline())
        result["closed_loop"] = throughput(port, chosen.seconds, chosen.rounds)
        result["streams"] = streams(port, chosen.seconds, chosen.rounds)
        result["pacing"] = pacing(port, chosen.seconds)
        if chosen.requests:
            result["memory"] = memory(port, chosen.requests)
    finally:
        mock.stdin.close()
        mock.wait(10)
    result["oracle"] = oracle(10.0)
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
