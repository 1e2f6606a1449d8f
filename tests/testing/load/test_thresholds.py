"""The grammar of thresholds, and what they say of figures."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.errors import BadRequest
from slipstream.testing.load.stats import Estimate, Figure
from slipstream.testing.load.thresholds import judge, threshold, thresholds


@pytest.mark.parametrize(
    ("text", "figure", "operator", "bound"),
    [
        ("p95 > 800ms", "response.p95", ">", 800.0),
        ("p99.9>=2s", "response.p99.9", ">=", 2000.0),
        ("ttft.p50 > 1.5s", "ttft.p50", ">", 1500.0),
        ("mean>250", "response.mean", ">", 250.0),
        ("error_rate > 1%", "error_rate", ">", 1.0),
        ("throughput < 10/s", "throughput", "<", 10.0),
        ("goodput<=5", "goodput", "<=", 5.0),
        ("gap.p99 > 500us", "gap.p99", ">", 0.5),
    ],
)
def test_what_is_read(text: str, figure: str, operator: str, bound: float) -> None:
    read = threshold(text)

    assert (read.figure, read.operator, read.bound) == (figure, operator, bound)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no threshold"),
        ("p95", "no threshold"),
        ("p95 == 3", "no threshold"),
        ("p95 > 800 ms and 1", "no threshold"),
        ("p95 > -3ms", "no threshold"),
        ("p94 > 3ms", "no figure"),
        ("ttft > 3ms", "no figure"),
        ("p95 > 3%", "no unit"),
        ("error_rate > 3ms", "no unit"),
        ("__import__ > 3", "no threshold"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    """One clear line, with what is allowed there."""
    with pytest.raises(BadRequest) as caught:
        threshold(text)

    assert said in str(caught.value)
    assert caught.value.hint


@given(st.text(max_size=40))
def test_no_text_breaks_the_grammar(text: str) -> None:
    """Any text is a threshold or a refusal, nothing else."""
    with contextlib.suppress(BadRequest):
        assert threshold(text).bound >= 0


@pytest.mark.parametrize(("value", "verdict"), [(801.0, "broken"), (800.0, "kept"), (1.0, "kept")])
def test_verdicts(value: float, verdict: str) -> None:
    outcome = judge(threshold("p95 > 800ms"), Figure(Estimate(value, samples=1000, reliable=True)))

    assert outcome.verdict == verdict
    assert outcome.fails is (verdict == "broken")


@pytest.mark.parametrize("figure", [None, Figure(Estimate()), Figure(Estimate(900.0, samples=20))])
def test_what_cannot_be_said_does_not_pass(figure: Figure | None) -> None:
    """Too few samples are no pass: the outcome says how many there were."""
    outcome = judge(threshold("p95 > 800ms"), figure)

    assert (outcome.verdict, outcome.fails) == ("unknown", True)
    assert "too few" in outcome.said


def test_they_are_bounded() -> None:
    with pytest.raises(BadRequest):
        thresholds(["p95 > 1s"] * 51)
