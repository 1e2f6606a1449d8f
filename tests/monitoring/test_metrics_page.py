"""The documentation of the metrics, held to the table, and the code blocks of the monitoring page, run."""

import re
from pathlib import Path

import pytest

from slipstream.core.metrics import METRICS
from slipstream.monitoring import metrics_page

DOCS = Path(__file__).parents[2] / "docs"


def test_page_is_current() -> None:
    """docs/metrics.md says what the table says; `make docs` writes it."""
    assert (DOCS / "metrics.md").read_text(encoding="utf-8") == metrics_page.page()


def test_every_metric_says_what_it_is() -> None:
    """Every metric has a sentence."""
    for metric in METRICS.values():
        assert metric.help.endswith((".", "…")), metric.name


def test_metrics_that_are_named_exist() -> None:
    """The Prometheus names on the monitoring page are names that are exported."""
    exported = (DOCS / "metrics.md").read_text(encoding="utf-8")
    named = set(re.findall(r"slipstream_[a-z_]+", (DOCS / "monitoring.md").read_text(encoding="utf-8")))
    assert named
    for name in named:
        stem = re.sub(r"_(bucket|count|sum)$", "", name)
        assert f"`{stem}`" in exported, name


BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (DOCS / "monitoring.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_on_the_page_runs(
    block: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block of docs/monitoring.md runs as printed, alone, with a simulated model."""
    monkeypatch.setenv("SLIPSTREAM__STATE_FOLDER", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS", "6")
    monkeypatch.setenv("SLIPSTREAM__MODELS__EMBEDDER__ENABLED", "off")
    exec(compile(block, "docs/monitoring.md", "exec"), {"__name__": "docs"})
