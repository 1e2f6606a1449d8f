"""Benchmarks: each is run by `make bench` and told of in the docs, and what is published is what was measured."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
CLAIMS = sorted(path.name for path in BENCH.glob("*.py") if not path.name.startswith("gateway"))
RESULT = json.loads((BENCH / "results" / "gateway.json").read_text())


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(BENCH))
    import gateway_report

    return gateway_report


def between(page: str, marks: tuple[str, str]) -> str:
    return (ROOT / page).read_text(encoding="utf-8").partition(marks[0])[2].partition(marks[1])[0]


def test_make_bench_runs_every_claim() -> None:
    """All of them but the gateway's, which has a command of its own."""
    told = subprocess.run(
        ["make", "-n", "bench"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert sorted(re.findall(r"bench/(\w+\.py)", told)) == CLAIMS


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_is_told_and_can_be_started(name: str) -> None:
    """The docs name it; it imports what it needs as `make bench` starts it."""
    assert f"`bench/{name}`" in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    program = f"import runpy; runpy.run_path({str(BENCH / name)!r}, run_name='imported')"
    path = [str(BENCH), *sys.path, str(ROOT / "tests")]
    code = f"import sys; sys.path[:] = {path!r}; {program}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_published_tables_are_the_measured_ones(report: object) -> None:
    """docs/benchmarks.md and the README hold what the last run of the gateway's benchmark found."""
    assert between("docs/benchmarks.md", report.PAGE_MARKS) == report.markdown(RESULT)
    assert between("README.md", report.README_MARKS) == report.summary(RESULT)


@pytest.mark.parametrize(
    ("name", "mark", "page"),
    [
        ("memory_windows", "memory windows", "docs/benchmarks.md"),
        ("steps", "steps", "docs/profiling.md"),
        ("watching", "watching", "docs/profiling.md"),
    ],
)
def test_the_published_costs_of_profiling_are_the_measured_ones(
    monkeypatch: pytest.MonkeyPatch, name: str, mark: str, page: str
) -> None:
    """The page and the README hold what the last run found."""
    monkeypatch.syspath_prepend(str(BENCH))
    bench = importlib.import_module(name)

    for each in (page, "README.md"):
        told = between(each, (f"<!-- {mark} -->\n", "\n<!-- end -->"))
        assert told == bench.said(json.loads(bench.RESULT.read_text()))
