"""What a condition says of readings: values in their units, minimum counts, no data, burn rates."""

import pytest

from monitoring.given import Given
from slipstream.config.settings import Slo
from slipstream.core.alerts import Answer
from slipstream.core.errors import ConfigurationError
from slipstream.monitoring.conditions.parser import parse
from slipstream.monitoring.conditions.program import Program, compiled


def said(text: str, **values: object) -> bool | None:
    return compiled(text, {}).ask(Given(**values)).fires


def test_percentile_in_ms() -> None:
    """`response_time > 5000` is about milliseconds: p95 of the values of a minute."""
    fast = [10.0] * 95 + [9000.0] * 5

    assert said("response_time > 5000", response_time=fast) is False
    assert said("response_time > 5000", response_time=[*fast, 9000.0, 9000.0]) is True
    assert said("p99(response_time) > 8 s", response_time=fast) is True


def test_percentile_needs_its_count() -> None:
    """Below 20 values a percentile is no data; `min count` moves that."""
    slow = [9000.0] * 19

    assert said("response_time > 5000", response_time=slow) is None
    assert said("response_time > 5000 min count 19", response_time=slow) is True
    assert said("response_time > 5000", response_time=[*slow, 9000.0]) is True
    assert said("max(response_time) > 8 s", response_time=[9000.0]) is True


def test_percent_gauge() -> None:
    """`cpu_usage > 80` is the average in percent."""
    assert said("cpu_usage > 80", cpu_usage=80.5) is True
    assert said("cpu_usage > 80", cpu_usage=79.5) is False
    assert said("cpu_usage > 80") is None


def test_share_of_nothing_is_no_data() -> None:
    """A hit rate needs 20 lookups; without hits among them it is 0."""
    assert said("cache_hit_rate < 0.5") is None
    assert said("cache_hit_rate < 0.5", cache_lookups=19.0, cache_hits=1.0) is None
    assert said("cache_hit_rate < 0.5", cache_lookups=20.0) is True
    assert said("cache_hit_rate < 50%", cache_lookups=20.0, cache_hits=10.0) is False


def test_idle_is_no_data_for_a_throughput() -> None:
    """`throughput < 10` says nothing of an idle system; `rate(requests)` does."""
    assert said("throughput < 10", requests=0.0) is None
    assert said("throughput < 10", requests=60.0) is True
    assert said("throughput < 10", requests=6000.0) is False
    assert said("rate(requests) < 10", requests=0.0) is True


def test_error_rate_in_percent() -> None:
    """A bare number beside `error_rate` is percent."""
    assert said("error_rate > 5", requests=100.0, errors=6.0) is True
    assert said("error_rate > 5", requests=100.0, errors=4.0) is False


def test_unknown_side_decides_only_where_it_must() -> None:
    """Without data, `or` needs a true side and `and` a false one."""
    known = {"in_flight": 5.0}

    assert said("cpu_usage > 80 or in_flight > 1", **known) is True
    assert said("cpu_usage > 80 or in_flight > 9", **known) is None
    assert said("cpu_usage > 80 and in_flight > 9", **known) is False
    assert said("cpu_usage > 80 and in_flight > 1", **known) is None
    assert said("not cpu_usage > 80", **known) is None
    assert said("not in_flight > 9", **known) is True


def test_division_by_zero_is_no_data() -> None:
    """A quotient of nothing is no data, not an error."""
    assert said("delta(errors, 5m) / delta(requests, 5m) > 5%", errors=0.0, requests=0.0) is None
    assert said("delta(errors, 5m) / delta(requests, 5m) > 5%", errors=1.0, requests=10.0) is True


def test_not_a_number_is_no_data() -> None:
    """NaN compares with nothing."""
    assert said("in_flight < 5", in_flight=float("nan")) is None


def test_absent() -> None:
    """`absent` is true when nothing was seen, and never without an answer."""
    assert said("absent(requests, 5m)") is True
    assert said("absent(requests, 5m)", requests=1.0) is False
    assert said("absent(cpu_usage)") is True
    assert said("absent(cpu_usage)", cpu_usage=1.0) is False


def test_window_and_labels_are_asked_for() -> None:
    """The window and the labels that are written are the ones that are looked at."""
    readings = Given(errors=3.0)
    compiled('delta(errors{model="a"}, 7m) > 1', {}).ask(readings)

    assert ("errors", {"model": "a"}, 420) in readings.asked


def test_value_for_people() -> None:
    """The answer carries what was compared, and the program shows it with its unit."""
    program = compiled("2 s < avg(response_time)", {})
    answer = program.ask(Given(response_time=[1234.0]))

    assert answer == Answer(False, pytest.approx(1.234))
    assert program.shown(answer.value) == "1.234 s"
    assert program.shown(None) == ""


def test_clear_when_is_asked_beside() -> None:
    """A `clear when` has its own answer."""
    program = compiled("in_flight > 10 clear when in_flight < 5", {})

    assert program.ask(Given(in_flight=7.0)) == Answer(False, 7.0, has_clear=True, clears=False)
    assert program.ask(Given(in_flight=4.0)) == Answer(False, 4.0, has_clear=True, clears=True)


SLOS = {"up": Slo(objective=99.0), "fast": Slo(objective=90.0, latency_ms=1000.0, model="m")}


def test_burn_rate_of_errors() -> None:
    """Share of bad requests over the budget: 5 % of a budget of 1 % burn at 5."""
    program = compiled("burn(up, 1h) > 4.9", SLOS)
    readings = Given(requests=100.0, errors=5.0)

    assert program.ask(readings) == Answer(True, pytest.approx(5.0))
    assert {window for _, _, window in readings.asked} == {3600.0, 300.0}


def test_burn_rate_of_slow_answers() -> None:
    """With a latency, an answer above it is a bad one; the model's alone count."""
    readings = Given(response_time=[100.0] * 50 + [5000.0] * 50)

    assert compiled("burn(fast, 1h) > 1", SLOS).ask(readings).value == pytest.approx(5.0)
    assert {tuple(labels.items()) for _, labels, _ in readings.asked} == {(("model", "m"),)}


class _Recovered(Given):
    """Bad an hour ago, good in the last five minutes."""

    def counter(self, name: str, labels: dict[str, str], window_seconds: float) -> float | None:
        if name == "errors":
            return 0.0 if window_seconds <= 300 else 100.0
        return 1000.0


def test_burn_rate_ends_with_the_burning() -> None:
    """The short window must burn as well, so that an alert ends soon after its cause."""
    assert compiled("burn(up, 1h) > 1", SLOS).ask(_Recovered()) == Answer(False, 0.0)


def test_burn_without_its_objective() -> None:
    """An objective that left the settings is a clear error, not a rule that never fires."""
    with pytest.raises(ConfigurationError, match=r"\[slo\.gone\] objective"):
        Program(parse("burn(gone, 1h) > 1"), SLOS)
