"""What a gateway adds: Slipstream beside nginx, Envoy, vllm-router, LiteLLM and bare probes, in one run.

    python bench/gateway.py [--rounds 5] [--seconds 1] [--targets direct,nginx,slipstream] [--json]

Needs Linux, two cores, wrk and nginx (apt-get install wrk nginx). Peers are installed from PyPI into
$SLIPSTREAM_BENCH_CACHE (default: a temporary folder), before anything is measured; one that is not to be had is
a row that says why. Everything runs on loopback: the target on core 0, driver and mock on core 1.

Rounds are interleaved: every target once, then again. Added = target minus direct in the same round; shown are
medians and quartiles of the rounds. First come the rounds with whole answers, where the mock is nginx with a
constant answer (in C, so that driver and mock do not set the limit; the Python mock where there is no nginx),
then the rounds with streams (Python mock). A rate is void above 80 % of the direct one or where the driver's
core was over 85 % busy.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import uvloop
from gateway_drive import (
    JSON_BODY,
    PACED_BODY,
    STREAM_BODY,
    busy_ticks,
    chunks,
    first_tokens,
    median,
    paced,
    request_of,
    script,
    wrk,
)
from gateway_peers import TARGETS, Site, compile_ours, move_supervisor, nginx_mock, python_mock
from gateway_process import NotAvailable, Process, ask, free_port, running, wait_ready
from gateway_report import (
    PAGE_MARKS,
    README_MARKS,
    machine,
    markdown,
    result_of,
    show,
    summary,
    write_page,
)

from slipstream.testing.floor_mock import BODY, LIST

TARGET_CORE, DRIVER_CORE = 0, 1
SLOW_RATE = 400
LEFTOVER_SECONDS = 20.0  # a slow target works on for clients that have left, beside the next one on its core
RESULT = Path(__file__).parent / "results" / "gateway.json"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
README = Path(__file__).parents[1] / "README.md"


@dataclass
class Target:
    """A target that serves, and what was measured of it, by round."""

    name: str
    port: int
    process: Process | None
    headers: dict[str, str]
    version: str
    rounds: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)

    def take(self, **measured: float) -> None:
        for name, value in measured.items():
            self.rounds.setdefault(name, []).append(value)

    def cpu_us(self) -> float:
        return self.process.cpu_us() if self.process is not None else 0.0

    def settle(self, *, seconds: float = 4.0) -> None:
        if self.process is not None:
            self.process.settle(seconds=seconds)


class Meter:
    """CPU time of target and mock, and how busy the driver's core was, over a block."""

    def __init__(self, target: Target, mock: Process) -> None:
        self._target, self._mock = target, mock

    def __enter__(self) -> Self:
        self._target.settle()
        self._cpu, self._mock_cpu = self._target.cpu_us(), self._mock.cpu_us()
        self._ticks, self._start = busy_ticks(DRIVER_CORE), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_us = (time.perf_counter() - self._start) * 1e6
        self.cpu_us = self._target.cpu_us() - self._cpu
        self.mock_cpu_us = self._mock.cpu_us() - self._mock_cpu
        busy, all_of_it = busy_ticks(DRIVER_CORE)
        self.core_busy = (busy - self._ticks[0]) / max(1, all_of_it - self._ticks[1])


def whole_answers(target: Target, mock: Process, lua: Path, seconds: int) -> None:
    """One round of whole answers: one connection, 32, 128."""
    target.settle()
    alone = wrk(target.port, lua, 1, seconds)
    if alone.rate < SLOW_RATE:  # at 128 connections its first answers come after a second
        seconds *= 4
    target.take(p50_us=alone.p50_us, p99_us=alone.p99_us, alone_rate=alone.rate, errors=alone.errors)
    for connections in (32, 128):
        with Meter(target, mock) as meter:
            burst = wrk(target.port, lua, connections, seconds)
        driver_busy = (burst.wrk_cpu_us + meter.mock_cpu_us) / meter.wall_us
        target.take(
            **{
                f"rate_{connections}": burst.rate,
                f"core_busy_{connections}": meter.core_busy,
                f"driver_busy_{connections}": driver_busy,
            },
            errors=burst.errors,
        )
        if connections == 32 and target.process is not None:
            target.take(cpu_us_request=meter.cpu_us / max(1, burst.requests))
    target.settle(seconds=LEFTOVER_SECONDS)


async def streams(target: Target, mock: Process, seconds: float) -> None:
    """One round of streams: first tokens on kept and on new connections, then the cost of a chunk."""
    plain = request_of(target.port, STREAM_BODY, target.headers)
    with Meter(target, mock) as burst:
        kept = await first_tokens(target.port, plain, seconds / 2, kept=True)
    new = await first_tokens(target.port, plain, seconds / 2, kept=False)
    with Meter(target, mock) as meter:
        slow = await paced(target.port, request_of(target.port, PACED_BODY, target.headers), seconds)
    target.take(
        ttft_kept_us=median(kept.first_us),
        ttft_new_us=median(new.first_us),
        errors=kept.failed + new.failed + slow.failed,
    )
    if target.process is not None:
        target.take(
            cpu_us_chunk=meter.cpu_us / max(1, chunks(slow)),
            cpu_us_chunk_burst=burst.cpu_us / max(1, chunks(kept)),
        )


class Bench:
    """One run: the targets that are up, the others with their reasons."""

    def __init__(self, folder: Path, cache: Path, names: list[str]) -> None:
        self.folder = folder
        self.cache = cache
        self.names = names
        self.port = free_port()
        self.targets: list[Target] = []
        self.missing: dict[str, str] = {}

    def start(self, stack: contextlib.ExitStack) -> None:
        """Start every target, one after the other."""
        compile_ours()
        for name in self.names:
            if name == "direct":
                self.targets.append(Target(name, self.port, None, {}, ""))
                continue
            say(f"starting {name}")
            try:
                self.targets.append(self._started(name, stack))
            except NotAvailable as why:
                self.missing[name] = str(why)
                say(f"{name}: not available ({why})")

    def _started(self, name: str, stack: contextlib.ExitStack) -> Target:
        folder = self.folder / name
        folder.mkdir()
        site = Site(folder, free_port(), self.port, TARGET_CORE, self.cache)
        started = TARGETS[name](site)
        process = stack.enter_context(running(started.process))
        ready = wait_ready(process, site.port, JSON_BODY.encode(), started.headers)
        if name == "slipstream-apart":
            move_supervisor(process, DRIVER_CORE)
        target = Target(name, site.port, process, started.headers, started.version)
        target.facts["ready_seconds"] = ready
        target.settle()
        target.facts["rss_idle_mb"] = process.rss_mb()
        return target

    @contextlib.contextmanager
    def mock(self, kind: str) -> Iterator[Process]:
        """The upstream, on its port; every target is asked until it has found it."""
        folder = self.folder / f"mock-{kind}"
        folder.mkdir(exist_ok=True)
        try:
            process = (
                nginx_mock(folder, self.port, DRIVER_CORE, (BODY, LIST))
                if kind == "nginx"
                else python_mock(folder, self.port, DRIVER_CORE)
            )
        except NotAvailable:
            process = python_mock(folder, self.port, DRIVER_CORE)
        with running(process):
            wait_ready(process, self.port, JSON_BODY.encode(), {})
            for target in list(self.targets):
                self._warm(target)
            yield process

    def _warm(self, target: Target) -> None:
        good, deadline = 0, time.perf_counter() + 30
        while good < 20:
            good = good + 1 if ask(target.port, JSON_BODY.encode(), target.headers) == 200 else 0
            if time.perf_counter() > deadline:
                self.targets.remove(target)
                self.missing[target.name] = "it does not answer any more"
                return

    def close_up(self) -> None:
        """What is read at the end."""
        for target in self.targets:
            if target.process is not None:
                target.facts["rss_after_mb"] = target.process.rss_mb()


BEGAN = time.perf_counter()


def say(line: str) -> None:
    print(f"{time.perf_counter() - BEGAN:6.1f} s  {line}", file=sys.stderr, flush=True)


def run(bench: Bench, rounds: int, seconds: int) -> None:
    with contextlib.ExitStack() as stack:
        with bench.mock("nginx") as mock:
            bench.start(stack)
            scripts = {
                target.name: script(bench.folder, target.name, target.headers) for target in bench.targets
            }
            for number in range(rounds):
                for target in bench.targets:
                    say(f"whole answers, round {number + 1}: {target.name}")
                    whole_answers(target, mock, scripts[target.name], seconds)
        with bench.mock("python") as mock, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for number in range(rounds):
                for target in bench.targets:
                    say(f"streams, round {number + 1}: {target.name}")
                    runner.run(streams(target, mock, float(seconds)))
        bench.close_up()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=1, help="length of a burst")
    options.add_argument(
        "--targets", default=",".join(TARGETS), help="names, by comma: " + ", ".join(TARGETS)
    )
    options.add_argument("--json", action="store_true", help="print the result as JSON")
    options.add_argument(
        "--keep", action="store_true", help="write results and docs also where targets were left out"
    )
    chosen = options.parse_args()
    names = ["direct", *(name for name in chosen.targets.split(",") if name != "direct")]
    if unknown := [name for name in names if name not in TARGETS]:
        options.error(f"unknown targets: {', '.join(unknown)}")
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        options.error("this needs Linux and two cores")
    if shutil.which("wrk") is None:
        options.error("this needs wrk (apt-get install wrk)")
    # As Ctrl-C, which asyncio's runner turns into a cancellation where a loop runs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    described = machine()
    os.sched_setaffinity(0, {DRIVER_CORE})
    with tempfile.TemporaryDirectory(prefix="ssb-") as folder:
        cache = Path(os.environ.get("SLIPSTREAM_BENCH_CACHE") or f"{folder}/cache")
        cache.mkdir(parents=True, exist_ok=True)
        bench = Bench(Path(folder), cache, names)
        try:
            run(bench, chosen.rounds, chosen.seconds)
        except KeyboardInterrupt:
            say("interrupted; everything started is ended")
            return 130
    result = result_of(
        bench.targets, bench.missing, described | {"rounds": chosen.rounds, "burst_seconds": chosen.seconds}
    )
    if chosen.keep or set(names) == set(TARGETS):
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        write_page(PAGE, PAGE_MARKS, markdown(result))
        write_page(README, README_MARKS, summary(result))
    if chosen.json:
        print(json.dumps(result, indent=1))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
