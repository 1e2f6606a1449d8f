"""What start-up costs: `import slipstream`, `slipstream --help`, and a gateway without a model.

    python bench/imports.py [--rounds 9]

Claim: the import loads no module beyond the standard library and ours; the help takes at most 150 ms. The peer,
in the same run and interleaved, is a bare interpreter. A gateway without a model is ready within 1 s and takes
at most 80 MB, supervisor and worker together.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil

from slipstream.testing.floor_gateway import gateway_folder, run_gateway

RESULT = Path(__file__).parent / "results" / "imports.json"
NOBODY = 9  # a port on which no upstream listens: none is asked before a request comes
PROGRAMS = {
    "python": "pass",
    "import slipstream": "import slipstream",
    "slipstream --help": "import sys; from slipstream.cli import run; sys.exit(run(['--help']))",
    "click (the help's only dependency)": "import click",
}
LOADED = """
import sys
before = set(sys.modules)
{program}
new = set(sys.modules) - before
ours = {{name for name in new if name.partition(".")[0] == "slipstream"}}
foreign = sorted({{name.partition(".")[0] for name in new - ours}} - sys.stdlib_module_names)
print(len(new), len(ours), ",".join(foreign), file=sys.stderr)
"""


def cost(program: str) -> tuple[float, float]:
    """CPU and wall milliseconds of a fresh interpreter that runs `program`."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", program], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu * 1e3, wall * 1e3


def loaded(program: str) -> dict[str, object]:
    """How many modules it loads, how many are ours, and which packages are foreign."""
    program = program.replace("sys.exit(run(['--help']))", "run(['--help'])")
    command = [sys.executable, "-P", "-c", LOADED.format(program=program)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    total, ours, foreign = done.stderr.strip("\n").split(" ")
    return {
        "modules": int(total),
        "ours": int(ours),
        "foreign": [name for name in foreign.split(",") if name],
    }


async def started() -> tuple[float, float, float]:
    """Seconds until a gateway without a model is ready; MB of its supervisor and of its worker."""
    with gateway_folder(NOBODY, ("m",)) as folder:
        start = time.perf_counter()
        async with run_gateway(folder) as gateway:
            ready = time.perf_counter() - start
            await asyncio.sleep(0.5)
            supervisor = psutil.Process(gateway.pid)
            workers = supervisor.children(recursive=True)
            return (
                ready,
                supervisor.memory_info().rss / 1e6,
                sum(worker.memory_info().rss for worker in workers) / 1e6,
            )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=9)
    rounds = options.parse_args().rounds
    load = os.getloadavg()[0]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, every start would compile
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    for program in PROGRAMS.values():
        cost(program)  # the first one finds the files
    for _ in range(rounds):
        for name, program in PROGRAMS.items():
            times[name].append(cost(program))
    starts = [asyncio.run(started()) for _ in range(1 + max(1, rounds // 3))][1:]
    rows = {
        name: {
            "cpu_ms": round(statistics.median(cpu for cpu, _ in measured), 1),
            "wall_ms": round(statistics.median(wall for _, wall in measured), 1),
            **loaded(PROGRAMS[name]),
        }
        for name, measured in times.items()
    }
    bare = float(rows["python"]["cpu_ms"])
    ready, supervisor, worker = (statistics.median(values) for values in zip(*starts, strict=True))
    result = {
        "programs": rows,
        "cpu_in_bare_pythons": {name: round(float(row["cpu_ms"]) / bare, 2) for name, row in rows.items()},
        "gateway": {
            "ready_seconds": round(ready, 2),
            "supervisor_mb": round(supervisor, 1),
            "worker_mb": round(worker, 1),
        },
        "checks": {
            "import slipstream loads nothing foreign": not rows["import slipstream"]["foreign"],
            "help <= 150 ms": float(rows["slipstream --help"]["wall_ms"]) <= 150,
            "help loads click only": rows["slipstream --help"]["foreign"] == ["click"],
            "ready < 1 s": ready < 1,
            "RSS <= 80 MB": supervisor + worker <= 80,
        },
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
        },
    }
    show(result)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def show(result: dict[str, dict[str, object]]) -> None:
    print(f"{'':<36}{'CPU ms':>8}{'wall ms':>9}{'modules':>9}{'ours':>6}  foreign")
    for name, row in result["programs"].items():
        assert isinstance(row, dict)
        cells = f"{row['cpu_ms']:>8}{row['wall_ms']:>9}{row['modules']:>9}{row['ours']:>6}"
        print(f"{name:<36}{cells}  {', '.join(row['foreign'])}")
    print(
        "gateway without a model: "
        + ", ".join(f"{name} {value}" for name, value in result["gateway"].items())
    )
    for name, holds in result["checks"].items():
        print(f"{'PASS' if holds else 'MISS'}  {name}")
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))


if __name__ == "__main__":
    main()
