"""Write docs/metrics.md from the table of metrics; a test holds it to that."""

from pathlib import Path

from slipstream.monitoring import metrics_page

(Path(__file__).parents[1] / "docs" / "metrics.md").write_text(metrics_page.page(), encoding="utf-8")
