"""Claim: a step costs at most a tenth of an OpenTelemetry span; 100 looks a second cost a program at most 1 %.

Load: a function with nine steps, by us, by the OpenTelemetry SDK (batch processor, an exporter that does
nothing) and by nothing; then a program of JSON work with a step for each piece of some 0.3 ms, beside the
same under pyinstrument (1 ms) and our CPU sampler (100 looks a second). All in one process, interleaved by
rounds, CPU time of the process, medians of ratios with their 95 % interval (bootstrap over rounds),
nothing beside nothing among them. Peers come from PyPI into
an environment under $SLIPSTREAM_BENCH_CACHE.
"""

import contextlib
import gc
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway_peers import environment
from watching import LOOKING_MAX, decided, middle

from slipstream.profiling import CpuProfiler, ResponseTimeProfiler

RESULT = Path(__file__).parent / "results" / "steps.json"
CACHE = Path(os.environ.get("SLIPSTREAM_BENCH_CACHE", Path(tempfile.gettempdir()) / "slipstream-bench"))
PEERS = ("opentelemetry-sdk==1.45.2", "pyinstrument==5.1.3")
ROUNDS, RUNS, CALLS, STEPS, PIECES = 25, 60, 1000, 9, 400
OF_A_SPAN_MAX = 0.1
DOCUMENT = {
    "messages": [{"role": "user", "content": "x" * 200, "at": at, "tags": list("abc")} for at in range(200)]
}


def ours() -> Callable[[], None]:
    profiler = ResponseTimeProfiler()

    def call() -> None:
        with profiler.step("call"):
            for _ in range(STEPS):
                with profiler.step("step"):
                    pass

    return call


def opentelemetry() -> Callable[[], None]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    tracer = provider.get_tracer("bench")

    def call() -> None:
        with tracer.start_as_current_span("call"):
            for _ in range(STEPS):
                with tracer.start_as_current_span("step"):
                    pass

    return call


def bare() -> None:
    for _ in range(STEPS):
        with contextlib.nullcontext():
            pass


def cost_ns(call: Callable[[], None]) -> float:
    """CPU time of a step, the process's other threads included: they do a part of the work."""
    began = time.process_time_ns()
    for _ in range(CALLS):
        call()
    return (time.process_time_ns() - began) / CALLS / (STEPS + 1)


def work(step: Callable[[str], contextlib.AbstractContextManager[object]]) -> float:
    """The program; its CPU time in ms."""
    began = used_ns()
    for _ in range(PIECES):
        with step("encode"):
            text = json.dumps(DOCUMENT)
        with step("decode"):
            json.loads(text)
    return (used_ns() - began) / 1e6


def used_ns() -> int:
    """CPU time of all threads, by their own clocks: that of the process lags while an alarm goes by it."""
    clocks = (time.pthread_getcpuclockid(each.ident or 0) for each in threading.enumerate())
    return sum(map(time.clock_gettime_ns, clocks))


def nothing(name: str) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext()


def programs(turn: int) -> dict[str, float]:
    """The program's CPU time without and with each tool, in another order each time."""
    import pyinstrument

    def steps() -> float:
        return work(ResponseTimeProfiler().step)

    def sampled() -> float:
        sampler = CpuProfiler()
        sampler.profile_cpu()
        try:
            return work(nothing)
        finally:
            sampler.stop()

    def beside_pyinstrument() -> float:
        with pyinstrument.Profiler(interval=0.001):
            return work(nothing)

    sides = {
        "bare": lambda: work(nothing),
        "bare again": lambda: work(nothing),
        "steps": steps,
        "cpu sampler": sampled,
        "pyinstrument 1 ms": beside_pyinstrument,
    }
    order = random.Random(turn).sample(list(sides), len(sides))
    found = {}
    for name in order:
        gc.collect()  # what the one before it has kept is not this one's to look through
        found[name] = sides[name]()
    return found


def said(result: dict[str, Any]) -> str:
    """The table of the docs."""
    us = {side: value / 1e3 for side, value in result["ns_a_step"].items()}
    slower = {
        tool: f"{found['median']:.3f}x ({found['low']:.3f} to {found['high']:.3f})"
        for tool, found in result["program_times_slower"].items()
    }
    return "\n".join(
        (
            "| | a step or span | a program with one for each 0.3 ms of work |",
            "|---|--:|--:|",
            (
                f"| `ResponseTimeProfiler` | {us['ours']:.1f} us, {result['ours_over_otel']['median']:.3f} of a span"
                f" | {slower['steps']} |"
            ),
            f"| OpenTelemetry SDK | {us['otel']:.1f} us | |",
            f"| nothing, once more: what chance does | | {slower['bare again']} |",
            f"| `cpu_profiler`, 100 looks a second | | {slower['cpu sampler']} |",
            f"| pyinstrument, 1 ms | | {slower['pyinstrument 1 ms']} |",
        )
    )


def main() -> None:
    packages = (
        environment(CACHE, *PEERS).parent / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    )
    sys.path.append(str(packages))
    sides = {"ours": ours(), "otel": opentelemetry(), "bare": bare}
    for call in sides.values():
        cost_ns(call)
    rounds = [{side: cost_ns(call) for side, call in sides.items()} for _ in range(ROUNDS)]
    runs = [programs(number) for number in range(RUNS)]
    slower = {
        tool: middle([run[tool] / run["bare"] for run in runs])
        for tool in ("bare again", "steps", "cpu sampler", "pyinstrument 1 ms")
    }
    ratio = middle([each["ours"] / each["otel"] for each in rounds])
    verdicts = [decided(ratio, OF_A_SPAN_MAX), decided(slower["cpu sampler"], 1 + LOOKING_MAX)]
    result = {
        "claim": "a step: at most a tenth of an OpenTelemetry span; 100 looks a second: at most 1 % of a program",
        "ns_a_step": {side: round(statistics.median(each[side] for each in rounds)) for side in sides},
        "ours_over_otel": ratio,
        "program_times_slower": slower,
        "holds": False if False in verdicts else (None if None in verdicts else True),
        "peers": PEERS,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "rounds": [{side: round(value) for side, value in each.items()} for each in rounds],
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: value for name, value in result.items() if name != "rounds"}, indent=2))


if __name__ == "__main__":
    main()
