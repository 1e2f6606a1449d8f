"""Whatever is written is either understood and shown back truly, or refused with a place; nothing else."""

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from monitoring.given import Given
from slipstream.core.metrics import METRICS
from slipstream.monitoring.conditions.expand import expand
from slipstream.monitoring.conditions.mistakes import ConditionError
from slipstream.monitoring.conditions.parser import parse
from slipstream.monitoring.conditions.program import compiled
from slipstream.monitoring.conditions.syntax import Condition

WORDS = [
    *("response_time", "cpu_usage", "cache_hit_rate", "errors", "in_flight", "memory_bytes", "cost_rate"),
    *("p95", "avg", "rate", "delta", "last", "count", "burn", "absent", "of", "over", "and", "or", "not"),
    *(
        "for",
        "keep",
        "clear",
        "when",
        "min",
        "no",
        "data",
        "ok",
        "alert",
        "5",
        "0.5",
        "80",
        "1e9",
        "1e400",
        "9e307",
        "999999999999999999",
        "1m",
        "2 h",
    ),
    *("%", "ms", "GB", "<", "<=", "==", "!=", ">", "=", "+", "-", "*", "/", "(", ")", "{", "}", ",", '"x"'),
    *('{model="a"}', "response_time > 5000", "cpu_usage > 80", "\\", '"', "\x00", "é", "٣"),
]
AMOUNTS = st.recursive(
    st.sampled_from(
        ["response_time", "p99(response_time, 5m)", "2 s", "avg of itl over 2 min", "100 ms", "max(ttft, 1h)"]
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-"]), inner).map(lambda each: f"({' '.join(each)})"),
        st.tuples(inner, st.sampled_from(["* 2", "/ 3"])).map(" ".join),
        inner.map(lambda each: f"-({each})"),
    ),
    max_leaves=4,
)
TRUTHS = st.recursive(
    st.tuples(
        AMOUNTS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.sampled_from(["ttft", "itl"])
    ).map(" ".join),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map(lambda each: f"not ({each})"),
        inner.map(lambda each: f"({each})"),
    ),
    max_leaves=3,
)


def understood(text: str) -> Condition | None:
    """The condition; None where it was refused with a place in the text."""
    try:
        return parse(text)
    except ConditionError as error:
        return None if 0 <= error.position <= len(text) else pytest.fail("a mistake outside of the text")


def survives(text: str) -> None:
    condition = understood(text)

    assert condition is None or parse(expand(condition)) == condition


@given(st.text(max_size=1100))
@example("in_flight > " + "1+" * 490 + "1")
def test_any_text(text: str) -> None:
    """No text does anything but parse or be refused."""
    survives(text)


@given(st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join))
def test_any_words_of_the_language(text: str) -> None:
    """The same for what is almost a condition."""
    survives(text)


@given(TRUTHS)
def test_shown_back_is_the_same(text: str) -> None:
    """What is shown of a condition is that condition, brackets and units included."""
    condition = understood(text)

    assert condition is None or parse(expand(condition)) == condition


@given(
    TRUTHS,
    st.dictionaries(
        st.sampled_from(["response_time", "ttft", "itl"]), st.lists(st.floats(0, 1e6), max_size=30)
    ),
)
def test_any_condition_answers(text: str, values: dict[str, list[float]]) -> None:
    """Every condition answers true, false or no data, whatever was measured."""
    try:
        program = compiled(text, {})
    except ConditionError:
        return
    answer = program.ask(Given(**values))

    assert answer.fires in {True, False, None}
    assert answer.value is None or answer.value == answer.value


def test_every_metric_can_be_asked() -> None:
    """Every declared metric is a condition's name, bare."""
    for name in METRICS:
        assert compiled(f"{name} > 0", {}).ask(Given()).fires is None


@pytest.mark.long
@settings(max_examples=20_000)
@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), TRUTHS))
def test_any_text_at_length(text: str) -> None:
    """The same, many times over."""
    survives(text)
