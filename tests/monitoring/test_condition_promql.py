"""Rules leave for Prometheus as what they mean over `/metrics`, minimum counts included."""

import pytest

from slipstream.config.settings import Slo
from slipstream.core.alerts import Rule
from slipstream.monitoring.conditions.parser import parse
from slipstream.monitoring.conditions.promql import query, rule_file

SLOS = {"up": Slo(objective=99.9), "fast": Slo(objective=95.0, latency_ms=2000.0, model="m")}
ERRORS = "(sum(rate(slipstream_errors_total[{0}s])) / sum(rate(slipstream_requests_total[{0}s])))"


@pytest.mark.parametrize(
    ("condition", "promql"),
    [
        (
            "response_time > 5000",
            (
                'histogram_quantile(0.95, sum by (le) (rate(slipstream_response_time_seconds_bucket{source="gateway"}[60s])))'
                ' > 5 and sum(increase(slipstream_response_time_seconds_count{source="gateway"}[60s])) >= 20'
            ),
        ),
        ("cpu_usage > 80", "avg_over_time(max(slipstream_cpu_usage_ratio)[60s:]) > 0.8"),
        (
            "error_rate > 5",
            (
                "sum(rate(slipstream_errors_total[300s])) / sum(rate(slipstream_requests_total[300s])) > 0.05"
                " and sum(increase(slipstream_requests_total[300s])) >= 20"
            ),
        ),
        (
            "not (in_flight > 3 or oldest_in_flight > 30s)",
            "(sum(slipstream_in_flight) <= 3) and (max(slipstream_oldest_in_flight_seconds) <= 30)",
        ),
        (
            "burn(up, 1h) > 14.4",
            f"(({ERRORS.format(3600)} <= {ERRORS.format(300)} or {ERRORS.format(300)}) / 0.001) > 14.4",
        ),
        ("absent(requests, 5m)", "absent(sum(increase(slipstream_requests_total[300s])) > 0)"),
        (
            'delta(requests{model="a\\"b"}, 5m) > 3',
            'sum(increase(slipstream_requests_total{model="a\\"b"}[300s])) > 3',
        ),
    ],
)
def test_query(condition: str, promql: str) -> None:
    """Aggregates, units, logic and objectives have their PromQL."""
    assert query(parse(condition), SLOS) == promql


def test_rule_file() -> None:
    """A rule's clauses and severity stand in its entry; names are quoted, and templates stay text."""
    rules = [Rule("me", 'A "b" {{ x }}', "in_flight > 3 for 2m keep 5m", "critical")]

    assert rule_file(rules, SLOS).splitlines() == [
        "groups:",
        "  - name: slipstream",
        "    rules:",
        "      # last of in_flight > 3, for 2 min, keep 5 min",
        '      - alert: "A \\"b\\" {{ x }}"',
        '        expr: "sum(slipstream_in_flight) > 3"',
        "        for: 120s",
        "        keep_firing_for: 300s",
        '        labels: {severity: critical, owner: "me"}',
        (
            '        annotations: {summary: "A \\"b\\" {{ \\"{{\\" }} x }}: last of in_flight > 3 '
            '(now {{ $value }})"}'
        ),
    ]


def test_what_is_lost_is_said() -> None:
    """What Prometheus has no word for, and what cannot be understood, stands in comments."""
    rules = [
        Rule("me", "A", "burn(fast, 1h) > 1 clear when in_flight < 3 no data alert"),
        Rule("me", "B", "no_such > 3"),
    ]
    text = rule_file(rules, SLOS)

    assert "# The 2000 ms of the objective 'fast' are taken as 1.28 s." in text
    assert "# `clear when` is not exported" in text
    assert "# `no data alert` is not exported" in text
    assert '# "B" is left out: "There is no metric `no_such`."' in text
    assert rule_file([], SLOS).endswith("rules: []\n")
