"""From the rounds of the gateway benchmark to its table: added times, ratios, and whether the floors hold."""

import os
import platform
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway import Target

NEAR_DIRECT = 0.8
DRIVER_BUSY = 0.85
ADDED = ("p50_us", "p99_us", "ttft_kept_us", "ttft_new_us")
"""Columns that are shown as target minus direct, round by round."""

Row = dict[str, object]


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
    }


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return [values[0]] * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return [low, middle, high]


def rounded(value: float) -> float:
    return round(value, 1 if abs(value) < 1000 else 0)


def result_of(
    targets: "list[Target]", missing: dict[str, str], described: dict[str, object]
) -> dict[str, object]:
    """Everything that was found, ready to be written down."""
    direct = next(target for target in targets if target.name == "direct")
    rows = {target.name: row_of(target, direct) for target in targets}
    return {
        "machine": described | {"load_average_after": [round(value, 2) for value in os.getloadavg()]},
        "versions": {target.name: target.version for target in targets if target.version},
        "not_available": missing,
        "rows": rows,
        "ratios": ratios(rows),
        "checks": checks(rows),
        "rounds": {
            target.name: {
                name: [rounded(value) for value in values] for name, values in target.rounds.items()
            }
            for target in targets
        },
    }


def row_of(target: "Target", direct: "Target") -> Row:
    """One target's row: for each column its quartiles over the rounds, and what makes a rate void."""
    row: Row = {}
    for name, values in target.rounds.items():
        if name in ADDED and target is not direct:
            added = [mine - its for mine, its in zip(values, direct.rounds[name], strict=True)]
            row["added_" + name] = [rounded(value) for value in quartiles(added)]
        elif "_busy_" in name:
            row[name] = round(statistics.median(values), 2)
        elif name == "errors":
            row[name] = sum(values)
        else:
            row[name] = [rounded(value) for value in quartiles(values)]
    row |= {name: round(value, 2) for name, value in target.facts.items()}
    for connections in (32, 128):
        row[f"void_{connections}"] = void(target, direct, connections)
    return row


def void(target: "Target", direct: "Target", connections: int) -> str:
    """Why a rate cannot be read; empty = it can."""
    if target is direct:
        return ""
    share = statistics.median(target.rounds[f"rate_{connections}"]) / statistics.median(
        direct.rounds[f"rate_{connections}"]
    )
    if share > NEAR_DIRECT:
        return f"{share:.0%} of direct"
    driver = statistics.median(target.rounds[f"driver_busy_{connections}"])
    core = statistics.median(target.rounds[f"core_busy_{connections}"])
    if max(driver, core) <= DRIVER_BUSY:
        return ""
    return f"driver's core {core:.0%} busy, with driver and mock {driver:.0%}"


def middle(row: Row | None, name: str) -> float | None:
    values = (row or {}).get(name)
    if isinstance(values, list):
        return float(values[1])
    return float(values) if isinstance(values, int | float) else None


def ratios(rows: dict[str, Row]) -> dict[str, dict[str, float]]:
    """Slipstream in its peers, column by column."""
    ours = rows.get("slipstream")
    columns = ("rate_32", "rate_128", "added_p50_us", "added_p99_us", "added_ttft_kept_us", "added_ttft_new_us",
               "cpu_us_request", "cpu_us_chunk", "cpu_us_chunk_burst", "rss_idle_mb", "ready_seconds")  # fmt: skip
    found: dict[str, dict[str, float]] = {}
    for name, row in rows.items():
        if ours is None or name.startswith("slipstream") or name == "direct":
            continue
        for column in columns:
            mine, its = middle(ours, column), middle(row, column)
            if mine is not None and its is not None and its > 0:
                found.setdefault(name, {})[column] = round(mine / its, 3)
    return found


def checks(rows: dict[str, Row]) -> list[dict[str, object]]:
    """The floors of DESIGN, section 8, each met or not, or not to be told."""
    ours = rows.get("slipstream")
    if ours is None:
        return []

    def against(peer: str, column: str) -> float | None:
        mine, its = middle(ours, column), middle(rows.get(peer), column)
        return mine / its if mine is not None and its is not None and its > 0 else None

    apart = rows.get("slipstream-apart")
    found = [
        check("req/s at 32 connections", middle(ours, "rate_32"), at_least=8000),
        check("req/s in the raw-ASGI probe's", against("raw-asgi", "rate_32"), at_least=0.5),
        check("req/s in LiteLLM's", against("litellm", "rate_32"), at_least=100),
        check("added p50 in nginx's", against("nginx", "added_p50_us"), at_most=2),
        check("added p99 in nginx's", against("nginx", "added_p99_us"), at_most=3),
        check(
            "added time to first token in nginx's, kept", against("nginx", "added_ttft_kept_us"), at_most=2
        ),
        check("added time to first token in nginx's, new", against("nginx", "added_ttft_new_us"), at_most=2),
        check(
            "CPU a chunk in the aiohttp relay's, one by one",
            against("aiohttp", "cpu_us_chunk"),
            at_most=1 / 3,
        ),
        check("the same, as fast as they come", against("aiohttp", "cpu_us_chunk_burst"), at_most=1 / 3),
        check("RSS idle, MB", middle(ours, "rss_idle_mb"), at_most=80),
        check("ready, s", middle(ours, "ready_seconds"), at_most=1),
    ]
    if apart is not None:
        found.append(
            check("req/s at 32, supervisor on the other core", middle(apart, "rate_32"), at_least=8000)
        )
        if apart["void_32"]:
            found[-1]["verdict"] = "void"
    for each, peer in zip(found, ("slipstream", "raw-asgi", "litellm"), strict=False):
        if ours["void_32"] or rows.get(peer, {}).get("void_32"):
            each["verdict"] = "void"
    return found


def check(
    what: str, value: float | None, *, at_least: float | None = None, at_most: float | None = None
) -> dict[str, object]:
    """One floor: PASS, MISS, or why it cannot be told."""
    if value is None:
        verdict = "not measured"
    else:
        holds = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        verdict = "PASS" if holds else "MISS"
    bound = f">= {at_least:g}" if at_least is not None else f"<= {at_most:.3g}"
    return {
        "what": what,
        "value": None if value is None else round(value, 2),
        "floor": bound,
        "verdict": verdict,
    }


WHOLE = (
    ("added p50 us", "added_p50_us"), ("added p99 us", "added_p99_us"), ("req/s at 32", "rate_32"),
    ("req/s at 128", "rate_128"), ("CPU us/req", "cpu_us_request"), ("ready s", "ready_seconds"),
)  # fmt: skip
STREAMED = (
    ("added TTFT us", "added_ttft_kept_us"), ("new conn", "added_ttft_new_us"), ("CPU us/chunk", "cpu_us_chunk"),
    ("in a burst", "cpu_us_chunk_burst"), ("RSS idle MB", "rss_idle_mb"), ("RSS after", "rss_after_mb"),
)  # fmt: skip


def show(result: dict[str, object]) -> None:
    """Print the tables and the verdicts."""
    rows: dict[str, Row] = result["rows"]  # type: ignore[assignment]
    for columns in (WHOLE, STREAMED):
        print(f"{'':<17}" + "".join(f"{title:>15}" for title, _ in columns))
        for name, row in rows.items():
            print(f"{name:<17}" + "".join(f"{cell(row, column):>15}" for _, column in columns))
        for name, why in result["not_available"].items():  # type: ignore[attr-defined]
            print(f"{name:<17}  not available ({why})")
        print()
    for name, row in rows.items():
        for connections in (32, 128):
            if row[f"void_{connections}"]:
                print(f"void: {name}, req/s at {connections}: {row[f'void_{connections}']}")
        if row.get("errors"):
            print(f"errors: {name}: {row['errors']:g}")
    direct = rows["direct"]
    print(
        f"direct to the mock: p50 {middle(direct, 'p50_us'):.0f} us, p99 {middle(direct, 'p99_us'):.0f} us;"
        f" first token {middle(direct, 'ttft_kept_us'):.0f} us kept, {middle(direct, 'ttft_new_us'):.0f} us new"
    )
    print("a cell is the median of the rounds; ±N% is half the distance of its quartiles\n")
    for each in result["checks"]:  # type: ignore[attr-defined]
        value = "-" if each["value"] is None else f"{each['value']:g}"
        print(f"{each['verdict']:<13}{each['what']:<48}{value:>8}   floor {each['floor']}")
    described: dict[str, object] = result["machine"]  # type: ignore[assignment]
    print("\n" + ", ".join(f"{name} {value}" for name, value in described.items()))
    versions: dict[str, str] = result["versions"]  # type: ignore[assignment]
    print("; ".join(f"{name} {version}" for name, version in versions.items()))


def cell(row: Row, column: str) -> str:
    """A value with its spread, as text."""
    values = row.get(column)
    if values is None:
        return "-"
    if not isinstance(values, list):
        return f"{values:g}"
    low, value, high = values
    spread = f" ±{(high - low) / 2 / abs(value):.0%}" if value and high > low else ""
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}") + spread


Marks = tuple[str, str]
PAGE_MARKS = ("<!-- written by bench/gateway.py -->\n", "<!-- end -->\n")
README_MARKS = ("<!-- benchmarks -->\n", "<!-- end benchmarks -->\n")
README_ROWS = ("nginx", "envoy", "vllm-router", "litellm", "raw-asgi", "slipstream")
README_COLUMNS = (
    ("added p50 us", "added_p50_us"), ("added p99 us", "added_p99_us"), ("req/s at 32", "rate_32"),
    ("CPU us/req", "cpu_us_request"), ("added TTFT us", "added_ttft_kept_us"), ("CPU us/chunk", "cpu_us_chunk"),
    ("RSS idle MB", "rss_idle_mb"),
)  # fmt: skip


def write_page(page: Path, marks: Marks, text: str) -> None:
    """Put text between the marks of a page: what is published is what was measured."""
    begin, end = marks
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    assert found, f"{page} lacks {begin!r}"
    assert closed, f"{page} lacks {end!r}"
    page.write_text(before + begin + text + end + after, encoding="utf-8")


def summary(result: dict[str, object]) -> str:
    """The table in short, for the README, and how many of the floors hold."""
    rows: dict[str, Row] = result["rows"]  # type: ignore[assignment]
    lines = ["| | " + " | ".join(title for title, _ in README_COLUMNS) + " |"]
    lines.append("|---|" + "--:|" * len(README_COLUMNS))
    for name in README_ROWS:
        if name in rows:
            cells = [marked(rows[name], column).partition(" ±")[0] for _, column in README_COLUMNS]
            cells = [f"{each}~~" if each.startswith("~~") else each for each in cells]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        else:
            lines.append(f"| {name} | not available |" + " |" * (len(README_COLUMNS) - 1))
    checks: list[dict[str, object]] = result["checks"]  # type: ignore[assignment]
    missed = [each for each in checks if each["verdict"] != "PASS"]
    told = f"{len(checks) - len(missed)} of {len(checks)} floors hold"
    lines += ["", f"{told}; these do not (ratios, but for those with a unit):" if missed else f"{told}.", ""]
    for each in missed:
        value = "not measured" if each["value"] is None else each["value"]
        lines.append(f"- {each['what']}: {value}, floor {each['floor']}")
    return "\n".join(lines) + "\n"


def markdown(result: dict[str, object]) -> str:
    """The tables and verdicts for the docs."""
    rows: dict[str, Row] = result["rows"]  # type: ignore[assignment]
    missing: dict[str, str] = result["not_available"]  # type: ignore[assignment]
    lines = []
    for columns in (WHOLE, STREAMED):
        lines += ["| | " + " | ".join(title for title, _ in columns) + " |", "|---|" + "--:|" * len(columns)]
        for name, row in rows.items():
            cells = [marked(row, column) for _, column in columns]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines += [
            f"| {name} | not available: {why} |" + " |" * (len(columns) - 1) for name, why in missing.items()
        ]
        lines.append("")
    lines += ["| floor | measured | bound | |", "|---|--:|--:|---|"]
    for each in result["checks"]:  # type: ignore[attr-defined]
        value = "-" if each["value"] is None else f"{each['value']:g}"
        lines.append(f"| {each['what']} | {value} | {each['floor']} | {each['verdict']} |")
    lines += ["", ", ".join(f"{name} {value}" for name, value in result["machine"].items()) + "."]  # type: ignore[attr-defined]
    lines += ["; ".join(f"{name} {version}" for name, version in result["versions"].items()) + "."]  # type: ignore[attr-defined]
    return "\n".join(lines) + "\n"


def marked(row: Row, column: str) -> str:
    """A cell; a rate that cannot be read is struck out."""
    void_for = {"rate_32": "void_32", "rate_128": "void_128"}.get(column, "")
    text = cell(row, column)
    return f"~~{text}~~" if row.get(void_for) and text != "-" else text
