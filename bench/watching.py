"""Claim: watching for stalls costs a request at most 3 %, and a CPU profile at 100 Hz at most 1 % of a core.

Load: two servers with a simulated model that answers at once, one with `profiling.stalls`, one without; eight
connections ask each in turn, and the worker's CPU time a request is compared (not the time on the wall: other
work on the machine would drown it). The workers have one core for themselves, whoever asks another. Then the
watching one again while it is profiled. Idle: the worker's CPU over some seconds of each. Medians of ratios
over interleaved rounds, the order turned round each time, with their 95 % interval (bootstrap over rounds): a
claim whose bound lies within it is not decided. What a profile cost is also what it says of itself.
"""

import contextlib
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from slipstream.config.live import LiveServer, live_servers
from slipstream.config.settings import Settings

RESULT = Path(__file__).parent / "results" / "watching.json"
ROUNDS, PROFILES, REQUESTS, CONNECTIONS = 80, 12, 800, 8
WATCH_MAX, LOOKING_MAX = 1.03, 0.01
DRAWS = 2_000
IDLE_SECONDS = 4.0
PROFILE_SECONDS = 3.0
BODY = json.dumps({"model": "sim", "messages": [{"role": "user", "content": "Hello"}]}).encode()
OFF = {
    "SLIPSTREAM__MODELS__LOCAL__ENABLED": "off",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
    "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "1",
}


@contextlib.contextmanager
def server(stalls: str) -> Iterator[tuple[LiveServer, psutil.Process]]:
    """A running server and its worker."""
    with tempfile.TemporaryDirectory(prefix="ss-") as folder:
        variables = {
            **os.environ,
            **OFF,
            "SLIPSTREAM__STATE_FOLDER": folder,
            "SLIPSTREAM__DATA_FOLDER": folder + "/data",
            "SLIPSTREAM__PROFILING__STALLS": stalls,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "slipstream", "serve", "--port", "0"],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not (found := live_servers(Settings(state_folder=folder))) or not answers(found[0]):
                time.sleep(0.05)
            workers = [
                each
                for each in psutil.Process(process.pid).children()
                if "worker" in " ".join(each.cmdline())
            ]
            yield found[0], workers[0]
        finally:
            process.terminate()
            process.wait(20)


def answers(live: LiveServer) -> bool:
    try:
        with urllib.request.urlopen(live.url.rstrip("/") + "/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def ask(live: LiveServer, count: int) -> None:
    """`count` requests one after the other on one connection."""
    host, port = live.url.rstrip("/").removeprefix("http://").split(":")
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b:%b\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (host.encode(), port.encode(), len(BODY), BODY)
    )
    with socket.create_connection((host, int(port))) as line, line.makefile("rb") as answer:
        for _ in range(count):
            line.sendall(request)
            assert b" 200 " in answer.readline()
            length = None
            while (head := answer.readline()) != b"\r\n":
                if head.lower().startswith(b"content-length:"):
                    length = int(head.split(b":")[1])
            if length is not None:
                answer.read(length)
                continue
            while size := int(answer.readline(), 16):
                answer.read(size + 2)
            answer.readline()


def cpu_us(live: LiveServer, worker: psutil.Process) -> float:
    """CPU of the worker a request."""
    before = used(worker)
    threads = [threading.Thread(target=ask, args=(live, REQUESTS // CONNECTIONS)) for _ in range(CONNECTIONS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return (used(worker) - before) / REQUESTS * 1e6


def used(worker: psutil.Process) -> float:
    """Seconds of CPU, from the scheduler's nanoseconds: the usual counts go by steps of 10 ms."""
    tasks = Path("/proc", str(worker.pid), "task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9


def idle(worker: psutil.Process) -> float:
    """Share of a core."""
    before, began = used(worker), time.perf_counter()
    time.sleep(IDLE_SECONDS)
    return (used(worker) - before) / (time.perf_counter() - began)


def profiled(live: LiveServer, worker: psutil.Process) -> tuple[float, float]:
    """CPU a request while a profile runs; and what looking cost, as the profile says, of a core."""
    found: list[dict[str, object]] = []
    request = urllib.request.Request(
        live.url.rstrip("/") + "/_slipstream/profile",
        json.dumps({"what": "cpu", "seconds": PROFILE_SECONDS}).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {live.token}"},
    )

    def look() -> None:
        with urllib.request.urlopen(request, timeout=60) as response:
            found.append(json.load(response))

    looking = threading.Thread(target=look)
    looking.start()
    time.sleep(0.3)
    cost = cpu_us(live, worker)
    looking.join()
    mine = found[0]["processes"][0]["cpu"]
    return cost, mine["own_seconds"] / mine["seconds"]


def middle(values: list[float]) -> dict[str, float]:
    """The median with its 95 % interval."""
    drawn = random.Random(1)
    medians = sorted(statistics.median(drawn.choices(values, k=len(values))) for _ in range(DRAWS))
    return {
        "median": round(statistics.median(values), 4),
        "low": round(medians[DRAWS // 40], 4),
        "high": round(medians[-DRAWS // 40], 4),
    }


def decided(found: dict[str, float], most: float) -> bool | None:
    """Whether it is at most so much; None where the interval holds both."""
    if found["high"] <= most:
        return True
    return False if found["low"] > most else None


def said(result: dict[str, dict[str, float]]) -> str:
    """The table of the docs."""
    us, idle_share = result["cpu_us_a_request"], result["idle_share_of_a_core"]

    def ratio(name: str) -> str:
        found = result[name]
        return f"{found['median']:.3f}x ({found['low']:.3f} to {found['high']:.3f})"

    return "\n".join(
        (
            "| | |",
            "|---|--:|",
            f"| looking 100 times a second, of a core | {result['looking_share_of_a_core']['median']:.2%} |",
            f"| the watch for stalls at rest, of a core | {idle_share['on'] - idle_share['off']:.2%} |",
            f"| CPU of a request with the watch, beside without | {ratio('watched_over_not')} |",
            f"| CPU of a request while it is looked at, beside not | {ratio('profiled_over_watched')} |",
            f"| CPU of a request, watched and not | {us['on']:.0f} us, {us['off']:.0f} us |",
        )
    )


def apart(workers: list[psutil.Process]) -> None:
    """A core for the workers, the last one for us, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for each in workers:
            each.cpu_affinity(cores[:1])
        os.sched_setaffinity(0, cores[-1:])


def main() -> None:
    with server("true") as (watched, worker), server("false") as (bare, other):
        apart([worker, other])
        sides = {"on": (watched, worker), "off": (bare, other)}
        for live, _ in sides.values():
            ask(live, 400)
        rounds = []
        for number in range(ROUNDS):
            order = sorted(sides, reverse=number % 2 == 0)
            rounds.append({side: cpu_us(*sides[side]) for side in order})
        looks = []
        for _ in range(PROFILES):
            plain = cpu_us(watched, worker)
            under, own = profiled(watched, worker)
            looks.append({"plain": plain, "profiled": under, "own": own})
        rest = {"on": idle(worker), "off": idle(other)}
    watch = middle([each["on"] / each["off"] for each in rounds])
    own = middle([each["own"] for each in looks])
    verdicts = [decided(watch, WATCH_MAX), decided(own, LOOKING_MAX)]
    result = {
        "claim": "watching for stalls costs a request at most 3 %; looking 100 times a second at most 1 % of a core",
        "cpu_us_a_request": {
            side: round(statistics.median(each[side] for each in rounds), 1) for side in ("on", "off")
        },
        "watched_over_not": watch,
        "profiled_over_watched": middle([each["profiled"] / each["plain"] for each in looks]),
        "looking_share_of_a_core": own,
        "idle_share_of_a_core": {side: round(value, 4) for side, value in rest.items()},
        "holds": False if False in verdicts else (None if None in verdicts else True),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "rounds": [{side: round(value, 1) for side, value in each.items()} for each in rounds],
        "looks": [{side: round(value, 4) for side, value in each.items()} for each in looks],
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    shown = {name: value for name, value in result.items() if name not in ("rounds", "looks")}
    print(json.dumps(shown, indent=2))


if __name__ == "__main__":
    main()
