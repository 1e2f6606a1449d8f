"""The page of the documentation that lists every metric; made from the table, so that it cannot be wrong."""

from slipstream.core.metrics import METRICS, Metric
from slipstream.monitoring import semconv

_HEAD = """\
# Metrics

Made from `src/slipstream/core/metrics.py` and `src/slipstream/monitoring/semconv.py` by `make docs`.

Names are ours: conditions, the dashboard, `/_slipstream/metrics/query` and the Python API use them.
`/metrics` tells them to Prometheus, OTLP to a collector; what is *derived* is computed by each reader from
the counters it names. A label beyond its bound is counted as `__other__`. What was never seen is not told,
instead of being 0; for Prometheus counters without labels begin at 0, so that a rate sees their first growth.

| metric | kind | unit | labels | Prometheus | OpenTelemetry | what it is |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """The page as Markdown."""
    return _HEAD + "".join(_row(metric) for metric in METRICS.values())


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    cells = (f"`{metric.name}`", metric.kind, metric.unit, labels, *_outside(metric), metric.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _outside(metric: Metric) -> tuple[str, str]:
    """What Prometheus and OpenTelemetry call it."""
    if metric.kind == "derived":
        above, below = metric.over
        return f"from `{above}`" + (f" and `{below}`" if below else ""), ""
    names = semconv.exported(metric)
    conventional = [each.name for each in semconv.CONVENTIONS if each.metric == metric.name]
    otel = ", ".join(f"`{name}`" for name in conventional or [names.otel])
    return f"`{names.prometheus}{'_total' * (metric.kind == 'counter')}`", otel
