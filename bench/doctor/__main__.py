"""How good the doctor is: planted faults, controls and look-alikes on virtual time.

    python bench/doctor --seeds 2000-2011 --controls 2000-2007 --keep

Rules were tuned on seeds below 1000, the width of intervals on seeds below 2000; what is reported is of seeds from 2000 on. A fault counts only if it
moved the p95 or the answered share beyond noise. Results are kept in bench/results/doctor.json.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from cases import CONTROLS, FAULTS, make
from score import CAUSES, Scored, score

RESULTS = Path(__file__).resolve().parents[1] / "results" / "doctor.json"


def span(text: str) -> range:
    low, _, high = text.partition("-")
    return range(int(low), int(high or low) + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=span, default=span("2000-2011"))
    parser.add_argument("--controls", type=span, default=span("2000-2007"))
    parser.add_argument("--kinds", default=",".join(FAULTS + CONTROLS))
    parser.add_argument("--replays", type=int, default=6)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--cases", type=Path, help="write the cases there, to be joined by --join")
    parser.add_argument(
        "--join", type=Path, nargs="*", default=[], help="take these cases instead of running any"
    )
    given = parser.parse_args()
    started = time.perf_counter()
    scored = [Scored(**each) for path in given.join for each in json.loads(path.read_text())]
    for kind in given.kinds.split(",") if not given.join else []:
        for seed in given.seeds if kind in FAULTS else given.controls:
            one = score(make(kind, seed), replays=given.replays)
            scored.append(one)
            print(line(one), file=sys.stderr, flush=True)
            if given.cases:
                given.cases.write_text(json.dumps([asdict(each) for each in scored]))
    report = summed(scored)
    report["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps(report, indent=2))
    if given.keep:
        report["cases"] = [asdict(each) for each in scored]
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


def line(one: Scored) -> str:
    named = one.named[0] if one.named else "-"
    right = "ok " if (named == one.kind or (one.kind in CONTROLS and named == "-")) else "NO "
    said = f"{right if one.moved or one.kind in CONTROLS else '(not moved) '}{one.kind} {one.seed}: {named}"
    said += f"  p95 {one.healthy_p95:.2f} -> {one.p95:.2f}"
    if one.actual:
        low, high = one.p95_interval or (0, 0)
        said += f"; {one.setting}: predicted {one.predicted['p95']:.2f} [{low:.2f}, {high:.2f}]"
        said += f", was {one.actual['p95']:.2f} ({one.actual['p95_one']:.2f})"
    elif one.refused:
        said += f"; {one.setting}: {one.refused}"
    return f"{said}  {one.diagnose_seconds:.1f} s"


def summed(scored: list[Scored]) -> dict[str, object]:
    faults = [each for each in scored if each.kind in FAULTS and each.moved]
    controls = [each for each in scored if each.kind in CONTROLS]
    first = [each for each in faults if each.named[:1] == [each.kind]]
    verified = [each for each in first if each.actual]
    errors = [abs(e.predicted["p95"] / e.actual["p95"] - 1) for e in verified]
    middle_errors = [abs(e.predicted["p50"] / e.actual["p50"] - 1) for e in verified]
    inside = [
        e.p95_interval[0] <= e.actual["p95_one"] <= e.p95_interval[1] for e in verified if e.p95_interval
    ]
    inside50 = [
        e.p50_interval[0] <= e.actual["p50_one"] <= e.p50_interval[1] for e in verified if e.p50_interval
    ]
    better = [e.actual["p95"] < e.p95 or e.actual["failed_share"] < e.failed_share - 0.03 for e in verified]
    gained = [1 - e.actual["p95"] / e.p95 for e in verified]
    return {
        "faults_planted": sum(each.kind in FAULTS for each in scored),
        "faults_that_moved": len(faults),
        "ac1": share(len(first), len(faults)),
        "ac1_by_kind": {
            kind: share(sum(e.kind == kind for e in first), sum(e.kind == kind for e in faults))
            for kind in FAULTS
        },
        "subject_right": share(
            sum(e.subject_right is True for e in first), sum(e.subject_right is not None for e in first)
        ),
        "controls": len(controls),
        "false_alarms": share(sum(bool(each.named) for each in controls), len(controls)),
        "false_alarms_by_kind": dict(Counter(each.kind for each in controls if each.named)),
        "predicted": share(len(verified), len(first)),
        "p95_error_median": middle(errors),
        "p95_error_p90": quantile(errors, 0.9),
        "p50_error_median": middle(middle_errors),
        "p95_coverage_of_90": share(sum(inside), len(inside)),
        "p50_coverage_of_90": share(sum(inside50), len(inside50)),
        "verified_gain_median": middle(gained),
        "verified_better": share(sum(better), len(better)),
        "diagnose_seconds_median": middle([each.diagnose_seconds for each in scored]),
        "baselines_ac1": {
            name: share(sum(e.baselines[name] == e.kind for e in faults), len(faults))
            for name in ("largest_mean_step", "largest_p95_step", "random")
        },
        "confusion": {
            kind: dict(Counter(e.named[0] if e.named else "none" for e in faults if e.kind == kind))
            for kind in CAUSES
        },
    }


def share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def middle(values: list[float]) -> float | None:
    return round(statistics.median(values), 4) if values else None


def quantile(values: list[float], at: float) -> float | None:
    return round(sorted(values)[min(len(values) - 1, int(at * len(values)))], 4) if values else None


if __name__ == "__main__":
    main()
