"""Writes what the load engine's benchmarks found into docs/benchmarks.md, between its markers.

    python bench/load_report.py

Measures nothing: the figures are those of bench/results/load_engine.json and load_aiperf.json.
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOC = HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- written by bench/load_report.py -->\n", "<!-- end -->\n"
NAMES = {"slipstream": "slipstream load", "wrk": "wrk", "hey": "hey", "locust": "Locust (FastHttpUser)"}
Result = dict[str, Any]


def rendered(engine: Result, aiperf: Result) -> str:
    """All tables, markers apart."""
    return "\n".join(
        [_closed_loop(engine), _claims(engine), _oracle(engine), _aiperf(aiperf), _where(engine)]
    )


def _closed_loop(engine: Result) -> str:
    lines = ["| closed loop, one core | req/s | CPU us/req | core busy |", "|---|--:|--:|--:|"]
    lines += [
        f"| {NAMES[row['who']]} | {row['requests_per_second']:,.0f} | {row['cpu_us']:.1f} | {row['busy']:.0%} |"
        for row in engine["closed_loop"]
    ]
    return "\n".join(lines) + "\n"


def _claims(engine: Result) -> str:
    own = next(row for row in engine["closed_loop"] if row["who"] == "slipstream")
    streams, pacing, memory = engine["streams"], engine["pacing"], engine.get("memory")
    oracle = engine["oracle"]
    worst = max(oracle["slipstream_frozen_server_errors"])
    rows = [
        ("requests/s of one core, closed loop", own["requests_per_second"], ">=", 20_000, ",.0f"),
        ("SSE chunks/s of one core", streams["chunks_per_second"], ">=", 100_000, ",.0f"),
        ("percentiles under a frozen server, largest error, %", 100 * worst, "<=", 2, ".2f"),
    ]
    lines = ["| claim | measured | bound | |", "|---|--:|--:|---|"]
    for what, value, sign, bound, form in rows:
        is_met = value >= bound if sign == ">=" else value <= bound
        lines.append(f"| {what} | {value:{form}} | {sign} {bound:,} | {'PASS' if is_met else 'MISS'} |")
    lag = f"{pacing['lag_ms_p50']:.3f} / {pacing['lag_ms_p99']:.3f} / {pacing['lag_ms_max']:.2f}"
    lines.append(f"| schedule lag at {pacing['rate']:,} req/s, p50 / p99 / max, ms | {lag} | | |")
    if memory:
        size = f"{memory['worker_pss_mb']:.0f} + {memory['engine_pss_mb']:.0f}"
        lines.append(f"| memory at {memory['requests']:,} requests, worker + engine, MB | {size} | | |")
    return "\n".join(lines) + "\n"


def _oracle(engine: Result) -> str:
    oracle = engine["oracle"]
    heads = "".join(f" p{rank:g} |" for rank in oracle["ranks"])
    lines = [f"| server frozen for 2 of 10 s, ms |{heads}", f"|---|{'--:|' * len(oracle['ranks'])}"]
    told = {
        "truth": "truth_ms",
        "slipstream load": "slipstream_frozen_server_ms",
        "hey -q": "hey_ms",
        "Locust": "locust_ms",
    }
    for name, key in told.items():
        if key in oracle:
            lines.append(f"| {name} |" + "".join(f" {value:,.1f} |" for value in oracle[key]))
    return "\n".join(lines) + "\n"


def _aiperf(found: Result) -> str:
    lines = ["| one server, ms | slipstream load | AIPerf | apart |", "|---|--:|--:|--:|"]
    for key, name in (
        ("ttft_ms_p50", "time to first token, p50"),
        ("ttft_ms_mean", "time to first token, mean"),
        ("itl_ms_p50", "between tokens, p50"),
        ("itl_ms_mean", "between tokens, mean"),
    ):
        apart = found["ours_over_theirs_less_one"][key]
        lines.append(
            f"| {name} | {found['slipstream'][key]:.2f} | {found['aiperf'][key]:.2f} | {apart:+.2%} |"
        )
    return "\n".join(lines) + "\n"


def _where(engine: Result) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in engine["machine"].items())
    return f"{machine}{', real-time scheduling' if engine['fifo'] else ''}.\n"


def read(name: str) -> Result:
    result: Result = json.loads((HERE / "results" / name).read_text())
    return result


def main() -> None:
    text = DOC.read_text()
    head, _, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert end, f"{DOC} has no place for it"
    tables = rendered(read("load_engine.json"), read("load_aiperf.json"))
    DOC.write_text(f"{head}{BEGIN}{tables}{END}{tail}")


if __name__ == "__main__":
    main()
