"""Time to first token and between tokens as AIPerf and as `slipstream load` see them, on one server.

    SLIPSTREAM_BENCH_CACHE=~/.cache/slipstream-bench python bench/load_aiperf.py [--seconds 20] [--rounds 3]

AIPerf comes from PyPI into an environment of its own under the cache (1.2 GB, ten minutes once); without it there
is nothing to compare, and the benchmark says so. Both ask one simulated server of known speed at the same constant
rate, in turn; medians of the rounds are kept. AIPerf counts tokens with a tokenizer that is made here, for nothing
is fetched. Equal means: within 2 %.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gateway_peers import environment

from slipstream.testing.load.definitions import told_as
from slipstream.testing.load.engine import run
from slipstream.testing.load.plan import Lengths, Plan, TrafficSpec
from slipstream.testing.load.run import RunOptions
from slipstream.testing.load.target import Target

RESULTS = Path(__file__).parent / "results" / "load_aiperf.json"
AIPERF = "aiperf==0.13.0"
TTFT_MS, ITL_MS, PROMPT_TOKENS, OUTPUT_TOKENS = 60, 10, 200, 32
EQUAL = 0.02
REVISION = "0" * 40
Row = dict[str, object]
Figures = dict[str, float]

FIGURES = {
    "ttft_ms": ("time_to_first_token", "Time to First Token"),
    "itl_ms": ("inter_token_latency", "Inter Token Latency"),
    "latency_ms": ("request_latency", "Request Latency"),
}
"""Ours: AIPerf's name in its export, and what `--compat aiperf` calls it."""

TRACED = ("http_req_blocked", "http_req_connecting", "http_req_sending", "http_req_waiting")

TOKENIZER = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
made = Tokenizer(models.BPE())
made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=2000, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
)
made.train_from_iterator(["the quick brown fox and all that one can say of a dog " * 50], trainer)
PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>").save_pretrained(sys.argv[1])
"""


def aiperf() -> Path | None:
    """Where AIPerf's commands are, installed into the cache if there is one."""
    cache = os.environ.get("SLIPSTREAM_BENCH_CACHE")
    if not cache:
        return None
    return environment(Path(cache).expanduser(), AIPERF)


def make_tokenizer(commands: Path, home: Path) -> None:
    """A tokenizer called `tok`, where AIPerf looks for one that was fetched before."""
    repository = home / "hub" / "models--tok"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    line = [str(commands / "python"), "-c", TOKENIZER, str(repository / "snapshots" / REVISION)]
    subprocess.run(line, check=True, capture_output=True)


def by_aiperf(commands: Path, url: str, folder: Path, rate: float, seconds: int) -> Figures:
    """One run of AIPerf; its means and medians."""
    out = folder / f"out-{time.monotonic_ns()}"
    line = [str(commands / "aiperf"), "profile", "--model", "m", "--tokenizer", "tok", "--url", url]
    line += ["--endpoint-type", "chat", "--streaming", "--use-server-token-count", "--ui", "none"]
    line += ["--isl", str(PROMPT_TOKENS), "--osl", str(OUTPUT_TOKENS), "--extra-inputs", "ignore_eos:true"]
    line += ["--request-rate", f"{rate:g}", "--arrival-pattern", "constant", "--workers-max", "1"]
    line += ["--benchmark-duration", str(seconds), "--output-artifact-dir", str(out), "--export-http-trace"]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HOME": str(folder)}
    done = subprocess.run(
        line, cwd=folder, env=os.environ | offline, capture_output=True, text=True, check=False, timeout=300
    )
    exports = list(out.rglob("profile_export_aiperf.json"))
    assert exports, (done.stdout + done.stderr)[-3000:]
    told = json.loads(exports[0].read_text())
    figures = {
        f"{name}_{key}": float(told[theirs][statistic])
        for name, (theirs, _) in FIGURES.items()
        for key, statistic in (("mean", "avg"), ("p50", "p50"))
    }
    return figures | {"requests": float(told["request_count"]["avg"])} | traced(exports[0].parent)


def traced(folder: Path) -> Figures:
    """Medians of where a request's time was by AIPerf's own trace of its HTTP client."""
    values: dict[str, list[float]] = {}
    for line in next(folder.rglob("profile_export.jsonl")).read_text().splitlines():
        for name, metric in json.loads(line)["metrics"].items():
            if name in TRACED:
                values.setdefault(name, []).append(float(metric["value"]))
    return {f"{name}_ms_p50": statistics.median(each) for name, each in values.items()}


def by_us(url: str, rate: float, seconds: int) -> Figures:
    """One run of ours, told by AIPerf's definitions."""
    traffic = TrafficSpec(
        prompt_tokens=Lengths(mean=PROMPT_TOKENS), output_tokens=Lengths(mean=OUTPUT_TOKENS)
    )
    plan = Plan(loop="constant", rate=rate, duration_seconds=seconds, traffic=traffic)
    target = Target(url=url, model="m", extra='{"ignore_eos":true}')
    result = asyncio.run(run(plan, target, options=RunOptions(workers=1)))
    rows = {row.name: row.value for row in told_as("aiperf", result.samples)}
    figures = {
        f"{name}_{key}": float(rows[f"{told} {statistic} (ms)"] or 0)
        for name, (_, told) in FIGURES.items()
        for key, statistic in (("mean", "avg"), ("p50", "p50"))
    }
    lag = result.meters.lag_p99_ns / 1e6
    return figures | {"requests": float(rows["Request Count"] or 0), "lag_ms_p99": lag}


def medians(rows: list[Figures]) -> Figures:
    return {key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]}


def machine() -> Row:
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "nice": os.nice(0),
        "python": platform.python_version(),
    }


def compared(commands: Path, options: argparse.Namespace) -> Row:
    """Both in turn against one simulated server."""
    rounds: dict[str, list[Figures]] = {"slipstream": [], "aiperf": []}
    command = [sys.executable, "-P", "-m", "slipstream", "simulate", "--port", "0"]
    command += ["--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        found = re.search(r"http://[\d.]+:\d+", server.stdout.readline())
        assert found is not None
        with tempfile.TemporaryDirectory() as folder:
            make_tokenizer(commands, Path(folder))
            for _ in range(options.rounds):
                rounds["slipstream"].append(by_us(found[0], options.rate, options.seconds))
                print("slipstream", rounds["slipstream"][-1], flush=True)
                told = by_aiperf(commands, found[0], Path(folder), options.rate, options.seconds)
                rounds["aiperf"].append(told)
                print("aiperf", told, flush=True)
    finally:
        server.terminate()
        server.wait(10)
    ours, theirs = medians(rounds["slipstream"]), medians(rounds["aiperf"])
    apart_by = {key: round(ours[key] / theirs[key] - 1, 4) for key in ours if key.endswith(("_mean", "_p50"))}
    return {
        "told": {"ttft_ms": TTFT_MS, "itl_ms": ITL_MS, "output_tokens": OUTPUT_TOKENS},
        "rate": options.rate,
        "seconds": options.seconds,
        "slipstream": ours,
        "aiperf": theirs,
        "ours_over_theirs_less_one": apart_by,
        "equal": {key: abs(each) <= EQUAL for key, each in apart_by.items()},
        "rounds": rounds,
    }


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=20)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--rate", type=float, default=10.0)
    chosen = options.parse_args()
    commands = aiperf()
    if commands is None:
        print("AIPerf is not there: name a folder for it in SLIPSTREAM_BENCH_CACHE (1.2 GB, ten minutes).")
        return
    result: Row = {"machine": machine(), "aiperf_version": AIPERF, **compared(commands, chosen)}
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
