"""Measures what docs/faults.md publishes in milliseconds, which no test asserts: `PYTHONPATH=tests python -m faults.figures`.

Each figure is taken at a server in a process of its own, with clients and upstreams in this one. Run it on an
idle machine; it takes about two minutes.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from faults import byte_server as play
from faults.byte_server import ByteServer, byte_server
from faults.raw import (
    CHAT,
    JSON_LINE,
    Wire,
    address,
    ask,
    body_of,
    chat,
    chunked,
    eventually,
    post,
    request,
    wire,
)
from faults.rig import Behind, backstage, gateway, workers
from faults.test_json_attacks import JSON_ATTACKS
from faults.upstreams import EVENT
from slipstream.config.settings import Simulated
from slipstream.testing.simulator import run_simulator

LEAVES = 1000
ILL = 50
"""Models that fall silent, each with a breaker of its own: it opens after five failures in a row."""
HOSTILE = 10


def show(what: str, seconds: Sequence[float]) -> None:
    """Median, 99th percentile and greatest, in milliseconds."""
    ordered = sorted(1000 * each for each in seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(
        f"{what}: p50 {statistics.median(ordered):.1f} ms, p99 {p99:.1f} ms, max {ordered[-1]:.1f} ms, n {len(ordered)}"
    )


def leaving(url: str, served: ByteServer, model: str, mark: bytes) -> list[float]:
    """From a client's reset until its upstream has seen the connection close."""
    took = []
    for _ in range(LEAVES):
        asked, left = served.requests[model], served.left[model]
        with wire(url) as client:
            client.send(chat(model))
            while served.requests[model] == asked:
                time.sleep(0.0005)
            if mark:
                client.until(mark)
            began = time.monotonic()
            client.reset()
            while served.left[model] == left:
                time.sleep(0.0005)
            took.append(served.left_at - began)
    return took


async def silences(url: str, models: Sequence[str], deadline: float) -> list[float]:
    """How long after its deadline the error comes; all models asked at once, three times."""

    async def one(model: str) -> float:
        reader, writer = await asyncio.open_connection(*address(url))
        began = time.monotonic()
        writer.write(chat(model))
        await reader.readuntil(b"upstream_timeout")
        took = time.monotonic() - began
        writer.close()
        return took - deadline

    took: list[float] = []
    for _ in range(3):
        took += await asyncio.gather(*map(one, models))
    return took


def slots(url: str, served: ByteServer, models: Sequence[str]) -> list[float]:
    """From the error until the upstream has seen the connection close; 0 where it saw that first."""
    took = []
    for model in models:
        left = served.left[model]
        ask(url, chat(model))
        told = time.monotonic()
        while served.left[model] == left:
            time.sleep(0.0005)
        took.append(max(0.0, served.left_at - told))
    return took


def timed(times: int, act: Callable[[], object]) -> list[float]:
    """How long each of so many takes."""
    took = []
    for _ in range(times):
        began = time.monotonic()
        act()
        took.append(time.monotonic() - began)
    return took


def cpu(worker: psutil.Process, act: Callable[[], object]) -> float:
    """CPU of the worker for one."""
    before = worker.cpu_times()
    for _ in range(HOSTILE):
        act()
    after = worker.cpu_times()
    return (after.user + after.system - before.user - before.system) / HOSTILE


def upstream_faults(folder: Path) -> None:
    """Rows U1, U2 and C1."""
    with backstage() as stage:
        served = stage.open(byte_server())
        silent, stuck = ([f"{kind} {number}" for number in range(ILL)] for kind in ("silent", "stuck"))
        served.plays.update(dict.fromkeys(silent, ("hang",)))
        served.plays.update({model: (play.HEAD + play.chunk(EVENT), "hang") for model in stuck})
        behind = [Behind(f"http://127.0.0.1:{served.port}/v1", model) for model in (*silent, *stuck)]
        behind += [Behind("http://127.0.0.1:9/v1", f"closed {number}") for number in range(20)]
        patience = {"MODELS__FIRST_TOKEN_SECONDS": "60", "MODELS__IDLE_SECONDS": "60"}
        with gateway(folder, behind, **patience) as server:
            show("C1 before the first token", leaving(server.url, served, silent[0], b""))
            show("C1 in the middle", leaving(server.url, served, stuck[0], b"data: "))
            models = iter(range(20))
            show("U1 refused, two tries", timed(20, lambda: ask(server.url, chat(f"closed {next(models)}"))))
        with gateway(folder, behind, MODELS__ATTEMPTS="1") as server:
            show("U2 first token, after 1 s", asyncio.run(silences(server.url, silent, 1.0)))
            show("U2 idle, after 1 s", asyncio.run(silences(server.url, stuck, 1.0)))
            show("U2 slot free after the error", slots(server.url, served, stuck[:20]))


def client_faults(folder: Path) -> None:
    """Rows C3, C4 and C5."""
    with backstage() as stage:
        simulator = stage.open(run_simulator(Simulated(output_tokens=8)))
        with gateway(folder, [Behind(f"{simulator.url}/v1", "well")]) as server:
            ask(server.url, chat("well", stream=False))
            (worker,) = workers(server)
            limit = 32 * 1024 * 1024
            attacks = {
                "declared body of 5 GB": request(
                    "POST", CHAT, JSON_LINE, "Content-Length: 5000000000", framed=False
                ),
                "chunked body over 32 MiB": chunked(body_of(limit + 1), 65536),
                "header of 33 KiB": request("GET", "/healthz", "X: " + "a" * 33 * 1024),
                "101 header lines": request("GET", "/healthz", *(f"X{n}: 1" for n in range(100))),
                "10^4 chunks of a byte": chunked(body_of(10_000), 1),
                **{f"JSON: {name}": post(CHAT, body) for name, body in JSON_ATTACKS.items()},
            }
            for name, raw in attacks.items():
                print(f"C4, C5 {name}: {1000 * cpu(worker, lambda raw=raw: ask(server.url, raw)):.1f} ms CPU")  # type: ignore[misc]
            before = worker.num_fds()
            clients = [Wire(server.url) for _ in range(1000)]
            began = time.monotonic()
            for client in clients:
                client.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            show("C3 another client meanwhile", timed(200, lambda: ask(server.url, chat("well"))))
            eventually(lambda: worker.num_fds() <= before, 60)
            print(
                f"C3 descriptors back after {time.monotonic() - began:.1f} s of a limit of 10 s for the header"
            )


if __name__ == "__main__":
    for measure in (upstream_faults, client_faults):
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name))
