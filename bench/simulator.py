"""How fast the simulated server answers when it has nothing to wait for, and how well it keeps its times.

    python bench/simulator.py [--seconds 3] [--rounds 5]

Needs wrk, two cores and Linux. The server runs on core 0, wrk on core 1. Peer, in the same run and
interleaved: a bare asyncio.Protocol that parses with httptools and writes constant bytes of the same length;
nothing written in Python on this loop answers faster. CPU time a request is what a busy machine spoils least;
a wall-clock rate can be read only where the server was kept busy (80 %) and the driver was not (85 %).
"""

import argparse
import asyncio
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
import time
from pathlib import Path

import httptools
import psutil
import uvloop

from slipstream.config.settings import Simulated
from slipstream.core.chat import Route, parse
from slipstream.testing.simulator import start_simulator
from slipstream.testing.simulator_service import Service

PATH = "/v1/chat/completions"
CHUNKS = 64
QUESTION = '"messages":[{"role":"user","content":"What is the capital of France?"}]'
BODIES = {
    "json": f'{{"model":"m",{QUESTION},"max_tokens":16}}',
    "sse": f'{{"model":"m",{QUESTION},"max_tokens":{CHUNKS},"stream":true}}',
}
RESULTS = Path(__file__).parent / "results" / "simulator.json"


class Bare(asyncio.Protocol):
    """The peer: parse, write constant bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.transport.write(self.answer)  # type: ignore[attr-defined]


async def serve_bare(kind: str) -> None:
    answer = Service(Simulated()).quick(PATH.encode(), BODIES[kind].encode())
    assert answer is not None
    server = await asyncio.get_running_loop().create_server(lambda: Bare(answer), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def wrk(url: str, kind: str, seconds: int, pid: int) -> dict[str, float]:
    """One run: rate, server CPU a request, how busy server and driver were."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f'wrk.method="POST"\nwrk.headers["Content-Type"]="application/json"\nwrk.body=[[{BODIES[kind]}]]\n'
        )
        script.flush()
        server = psutil.Process(pid)
        before, driver_before, start = (
            server.cpu_times(),
            resource.getrusage(resource.RUSAGE_CHILDREN),
            time.perf_counter(),
        )
        command = ["taskset", "-c", "1", "wrk", "-t1", "-c32", f"-d{seconds}", "-s", script.name, url + PATH]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        wall = time.perf_counter() - start
        after, driver_after = server.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Non-2xx" not in output, output
    assert "Socket errors" not in output, output
    count = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    cpu = after.user - before.user + after.system - before.system
    driver = driver_after.ru_utime - driver_before.ru_utime + driver_after.ru_stime - driver_before.ru_stime
    return {
        "requests_per_second": count / wall,
        "server_cpu_us": cpu / count * 1e6,
        "server_busy": cpu / wall,
        "driver_busy": driver / wall,
    }


def throughput(seconds: int, rounds: int) -> list[dict[str, float | str | bool]]:
    bare = {
        kind: subprocess.Popen(
            [sys.executable, __file__, "--bare", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in BODIES
    }
    urls = {
        ("bare", kind): (process.stdout.readline().strip(), process.pid) for kind, process in bare.items()
    }  # type: ignore[union-attr]
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    with start_simulator() as simulator:
        urls |= {("simulator", kind): (simulator.url, simulator.pid) for kind in BODIES}
        for _, pid in urls.values():
            for thread in psutil.Process(pid).threads():
                os.sched_setaffinity(thread.id, {0})
        for _ in range(rounds):
            for key, (url, pid) in urls.items():
                runs.setdefault(key, []).append(wrk(url, key[1], seconds, pid))
    for process in bare.values():
        process.communicate("")
    rows = []
    peer: dict[str, float] = {}
    for (who, kind), measured in runs.items():
        middle = {name: statistics.median(run[name] for run in measured) for name in measured[0]}
        peer.setdefault(kind, middle["server_cpu_us"])  # the bare one comes first
        row: dict[str, float | str | bool] = {"who": who, "kind": kind, "rounds": rounds}
        row |= {name: round(value, 2) for name, value in middle.items()}
        row["requests_per_cpu_second"] = round(1e6 / middle["server_cpu_us"])
        chunks = CHUNKS if kind == "sse" else 0
        row["chunks_per_second"] = round(middle["requests_per_second"] * chunks)
        row["chunks_per_cpu_second"] = round(1e6 / middle["server_cpu_us"] * chunks)
        row["cpu_times_bare"] = round(middle["server_cpu_us"] / peer[kind], 2)
        row["wall_rate_reads"] = middle["server_busy"] >= 0.8 and middle["driver_busy"] <= 0.85
        rows.append(row)
    return rows


Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def one_stream(connected: Connected, body: bytes) -> list[float]:
    reader, writer = connected
    start = time.perf_counter()
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (PATH.encode(), len(body), body)
    )
    times = []
    while not (line := await reader.readline()).startswith(b"data: [DONE]"):
        if b'"content":' in line and b'"role"' not in line:
            times.append(time.perf_counter() - start)
    writer.close()
    return times


async def fidelity(told: Simulated, streams: int, port: int) -> dict[str, object]:
    """How far the times of concurrent streams lie from what was asked for."""
    body = BODIES["sse"].encode()
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(streams)]
    heard = await asyncio.gather(*(one_stream(connected, body) for connected in connections))
    first = sorted(times[0] * 1e3 - told.ttft_ms for times in heard)
    distance = sorted((times[-1] - times[0]) * 1e3 / (len(times) - 1) - told.itl_ms for times in heard)
    return {
        "streams": streams,
        "ttft_ms": told.ttft_ms,
        "itl_ms": told.itl_ms,
        "ttft_error_ms_p50": round(first[len(first) // 2], 2),
        "ttft_error_ms_p99": round(first[int(len(first) * 0.99)], 2),
        "mean_itl_error_ms_p50": round(distance[len(distance) // 2], 3),
        "mean_itl_error_ms_max": round(max(map(abs, distance)), 3),
    }


def machine() -> dict[str, object]:
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "uvloop": uvloop.__version__,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }


def show(rows: list[dict[str, float | str | bool]]) -> None:
    titles = ("req/s", "wall", "req/cpu s", "chunks/cpu s", "CPU us", "x bare", "server", "driver")
    print(f"{'':<15}" + "".join(f"{title:>13}" for title in titles))
    for row in rows:
        cells = (
            f"{row['requests_per_second']:,.0f}",
            "reads" if row["wall_rate_reads"] else "void",
            f"{row['requests_per_cpu_second']:,}",
            f"{row['chunks_per_cpu_second']:,}",
            f"{row['server_cpu_us']}",
            f"{row['cpu_times_bare']}",
            f"{row['server_busy']:.0%}",
            f"{row['driver_busy']:.0%}",
        )
        print(f"{row['who']:<10}{row['kind']:<5}" + "".join(f"{cell:>13}" for cell in cells))


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=3)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--bare", choices=BODIES, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.bare:
        uvloop.run(serve_bare(chosen.bare))
        return
    if not shutil.which("wrk"):
        sys.exit("This benchmark drives the server with wrk: apt-get install wrk.")
    assert parse(Route.CHAT, BODIES["sse"].encode()).max_tokens == CHUNKS
    described = machine()
    rows = throughput(chosen.seconds, chosen.rounds)
    show(rows)
    told = Simulated(ttft_ms=200, itl_ms=20)
    with start_simulator(told) as simulator:
        port = int(simulator.url.rpartition(":")[2])
        kept = [uvloop.run(fidelity(told, streams, port)) for streams in (1, 64, 256)]
    for row in kept:
        print(row)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"machine": described, "throughput": rows, "fidelity": kept}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
