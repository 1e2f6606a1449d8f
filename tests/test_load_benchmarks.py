"""The load engine's figures in docs/benchmarks.md are those of its last measurement."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("load_report", ROOT / "bench" / "load_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_of_the_kept_results(report: ModuleType) -> None:
    """Whoever measures anew writes the tables anew: python bench/load_report.py."""
    tables = report.rendered(report.read("load_engine.json"), report.read("load_aiperf.json"))

    assert f"{report.BEGIN}{tables}{report.END}" in (ROOT / "docs" / "benchmarks.md").read_text()


def test_a_missed_bound_is_told(report: ModuleType) -> None:
    """A figure below its bound is a MISS, not left out."""
    engine, aiperf = report.read("load_engine.json"), report.read("load_aiperf.json")
    engine["streams"]["chunks_per_second"] = 99_999.0

    assert "| 99,999 | >= 100,000 | MISS |" in report.rendered(engine, aiperf)
