"""Claim: a memory window by memray slows a JSON workload by a quarter at most, a tenth of tracemalloc's cost.

Load: one thread reads and writes JSON (C code, many small objects), then makes Python calls that allocate
(where memray pays for each call). Each kind of window is opened around the same piece of work, in turn, round
by round, and the thread's CPU time is compared with the same round's time without a window. Medians of ratios;
the spread of the plain times says whether the machine was quiet enough, otherwise the run is void.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from slipstream.profiling.memory_windows import KINDS, open_window

RESULT = Path(__file__).parent / "results" / "memory_windows.json"
ROUNDS = 9
SPREAD_MAX = 0.25
"""Between the quartiles of the plain times, beyond which a run is void."""
FILE_BYTES_MAX = 1_000_000_000
DOCUMENT = json.dumps([{"at": at, "text": "x" * 20, "list": [1, 2.5, None]} for at in range(2000)])


def read_and_write() -> None:
    """JSON there and back."""
    json.dumps(json.loads(DOCUMENT))


def call() -> None:
    """Python calls that allocate, 10,000 of them."""
    for at in range(10_000):
        piece(at)


def piece(at: int) -> object:
    return {"at": at, "text": str(at)}


WORK: dict[str, tuple[Callable[[], None], int]] = {"json": (read_and_write, 10), "calls": (call, 10)}


def cpu_ms(name: str) -> float:
    work, times = WORK[name]
    began = time.thread_time_ns()
    for _ in range(times):
        work()
    return (time.thread_time_ns() - began) / times / 1e6


def one_round(name: str) -> dict[str, float]:
    """CPU of a piece of work without a window and in each kind."""
    took = {"plain": cpu_ms(name)}
    for by in KINDS:
        window = open_window(by, 10, file_bytes_max=FILE_BYTES_MAX)
        try:
            took[by] = cpu_ms(name)
        finally:
            window.end()
    return took


def said(result: dict[str, dict[str, dict[str, float]]]) -> str:
    """The table of the docs."""
    times = result["times_slower"]
    rows = [f"| `{by}` | " + " | ".join(f"{times[name][by]:.2f}x" for name in WORK) + " |" for by in KINDS]
    return "\n".join(["| window by | JSON | Python calls that allocate |", "|---|--:|--:|", *rows])


def main() -> None:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in WORK}
    for name in WORK:
        one_round(name)  # imports memray, warms up
        rounds[name] = [one_round(name) for _ in range(ROUNDS)]
    slower = {
        name: {
            by: round(statistics.median(each[by] / each["plain"] for each in rounds[name]), 3) for by in KINDS
        }
        for name in WORK
    }
    spread = {}
    for name in WORK:
        low, middle, high = statistics.quantiles([each["plain"] for each in rounds[name]], n=4)
        spread[name] = round((high - low) / middle, 3)
    own, peer = (slower["json"][by] for by in ("memray", "tracemalloc"))
    result = {
        "claim": "a window by memray slows JSON by a quarter at most, by a tenth of what tracemalloc does",
        "times_slower": slower,
        "spread_of_plain": spread,
        "holds": None if max(spread.values()) > SPREAD_MAX else own <= 1.25 and own - 1 <= (peer - 1) / 10,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "rounds": {
            name: [{side: round(ms, 3) for side, ms in each.items()} for each in rounds[name]]
            for name in WORK
        },
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: value for name, value in result.items() if name != "rounds"}, indent=2))
    print(said(result))


if __name__ == "__main__":
    main()
