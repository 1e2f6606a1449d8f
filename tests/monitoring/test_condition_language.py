"""What conditions mean: defaults, units, windows, clauses, mistakes."""

import pytest

from slipstream.monitoring.conditions.expand import expand
from slipstream.monitoring.conditions.mistakes import ConditionError
from slipstream.monitoring.conditions.parser import parse


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("response_time > 5000", "p95 of response_time over 1 min > 5 s"),
        ("cpu_usage > 80", "avg of cpu_usage over 1 min > 80 %"),
        ("memory_usage > 80%", "avg of memory_usage over 1 min > 80 %"),
        ("cache_hit_rate < 0.5", "cache_hit_rate over 5 min < 50 %"),
        ("cache_hit_rate < 50%", "cache_hit_rate over 5 min < 50 %"),
        ("throughput < 10", "throughput over 1 min < 10"),
        ("token_throughput < 10", "token_throughput over 1 min < 10"),
        ("error_rate > 5", "error_rate over 5 min > 5 %"),
        ("oldest_in_flight > 30s", "last of oldest_in_flight > 30 s"),
        ("errors > 2", "rate of errors over 1 min > 2"),
    ],
)
def test_bare_names_have_their_meaning(written: str, shown: str) -> None:
    """A bare name and number mean what API.md says, and are shown back with all of it."""
    assert expand(parse(written)) == shown


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("p99(response_time, 5m) > 2 s", "p99 of response_time over 5 min > 2 s"),
        ("p99 of response_time over 5m > 2s", "p99 of response_time over 5 min > 2 s"),
        ("p999(ttft) > 900 ms", "p999 of ttft over 1 min > 900 ms"),
        ("rate(errors, 1m) > 1k", "rate of errors over 1 min > 1000"),
        ("delta(errors, 1h 30m) >= 3", "delta of errors over 90 min >= 3"),
        ("count(response_time, 5m) < 20", "count of response_time over 5 min < 20"),
        (
            'avg(response_time{model="gpt-4o", source="app"}) > 1 s',
            'avg of response_time{model="gpt-4o", source="app"} over 1 min > 1 s',
        ),
        ("memory_bytes > 1.5GB", "last of memory_bytes > 1.5 GB"),
        ("max(in_flight, 2m) == 7", "max of in_flight over 2 min == 7"),
        ("delta(errors, 5m) / delta(requests, 5m) > 5%", None),
        ("response_time * 2 + 100 > 5000", "p95 of response_time over 1 min * 2 + 100 ms > 5 s"),
        ("cost_rate * 3600 > 2", "cost_rate over 1 min * 3600 > 2"),
        ("2 * 3 < in_flight - 1", "6 < last of in_flight - 1"),
        ("-5 < in_flight", "-5 < last of in_flight"),
        ("burn(chat, 1h) > 14.4", 'burn("chat", 1 h) > 14.4'),
        ("absent(requests, 10m)", "absent(requests, 10 min)"),
        (
            "cpu_usage > 80 or cpu_usage > 70 and not memory_usage > 5",
            (
                "avg of cpu_usage over 1 min > 80 % or avg of cpu_usage over 1 min > 70 % "
                "and not avg of memory_usage over 1 min > 5 %"
            ),
        ),
        (
            "(cpu_usage > 80 or cpu_usage > 70) and in_flight > 1",
            "(avg of cpu_usage over 1 min > 80 % or avg of cpu_usage over 1 min > 70 %) and last of in_flight > 1",
        ),
        (
            "in_flight > 10 for 2m keep 5m clear when in_flight < 5 min count 50 no data keep",
            "last of in_flight > 10, for 2 min, keep 5 min, clear when last of in_flight < 5, min count 50, no data keep",
        ),
        ("response_time > 5 min min count 3", "p95 of response_time over 1 min > 5 min, min count 3"),
    ],
)
def test_forms(written: str, shown: str | None) -> None:
    """Aggregates, windows, labels, units, arithmetic, logic and clauses; what is shown reads back as the same."""
    condition = parse(written)

    assert shown is None or expand(condition) == shown
    assert parse(expand(condition)) == condition


@pytest.mark.parametrize(
    ("written", "at", "said", "hint"),
    [
        ("response_tme > 5", 0, "There is no metric `response_tme`.", "`response_time`"),
        ("p95(respons_time) > 5", 4, "There is no metric `respons_time`.", "`response_time`"),
        ("p95(errors) > 5", 0, "`p95` of `errors` has no meaning: it is a counter.", "`rate`"),
        ("agv(cpu_usage) > 5", 0, "There is no aggregate `agv`.", "`avg`"),
        ("response_time = 5", 14, "`=` compares nothing.", "Write `==`."),
        ("response_time", 0, "This is an amount, and not yet a question.", "Compare it"),
        ("cpu_usage > 80 80", 15, "`80` is one word too many.", ""),
        ("response_time > 5 parsecs", 18, "`parsecs` is no unit.", ""),
        ("response_time > 5 seconds", 18, "`seconds` is no unit.", "Write `s`."),
        ("cpu_usage > 80 for 2 minutes", 21, "`minutes` is no unit of time.", "s, m, min, h, d"),
        ("p95 > 5", 0, "There is no metric `p95`.", "in brackets: `p95(response_time, 5m)`"),
        ("response_time > 1e400", 16, "This number is too large.", "10^18"),
        ("response_time > 9e17 h", 16, "This number is too large.", "10^18"),
        ("cpu_usage > 80 for 1e400 s", 19, "A time is whole seconds", ""),
        ("response_time > 5 MB", 14, "A time and an amount of data do not go together.", ""),
        ("in_flight > 5 ms", 10, "A plain number and a time do not go together.", ""),
        ("cache_hit_rate > 50", 15, "`cache_hit_rate` runs from 0 to 1.", "Write 50 %"),
        ("1 < in_flight < 5", 14, "Comparisons do not chain.", "`and`"),
        ('requests{modle="x"} > 1', 9, "`requests` has no label `modle`.", "`model`"),
        ("requests{model=x} > 1", 15, "The value of a label stands in quotes.", 'model="…"'),
        ('requests{model="x > 1', 15, "This string does not end", ""),
        ("cpu_usage > 80 for", 18, "Here a time is needed, such as `5m`.", ""),
        ("cpu_usage > 80 for 5", 20, "A time needs its unit.", "s, m, min, h, d"),
        ("cpu_usage > 80 for 5m for 6m", 22, "`for` stands here for the second time.", ""),
        ("cpu_usage > 80 for 0s", 19, "A time is whole seconds, from 1 s to 90 d.", ""),
        ("cpu_usage > 80 no data panic", 23, "Here it must say what no data means", ""),
        ("cpu_usage > 80 fro 5m", 15, "`fro` is no unit.", "`for`"),
        ("5 > 3", 2, "This compares two numbers; no metric is in it.", ""),
        ("in_flight > 1/0", 13, "This divides by zero.", ""),
        ("(cpu_usage > 80", 15, "Here `)` is needed.", ""),
        ("cpu_usage > 80 && in_flight > 1", 15, "`&&` is not understood.", "`and`"),
        ("cpu_usage > @", 12, "The character '@' has no meaning here.", ""),
        ("__import__(in_flight)", 0, "There is no aggregate `__import__`.", ""),
        ("", 0, "Here a metric or a number is missing.", ""),
        ("cpu_usage >", 11, "Here a metric or a number is missing.", ""),
        ("(cpu_usage > 80) > 5", 0, "This is true or false; an amount is needed here.", ""),
        ("burn(chatt, 1h) > 1", 5, "There is no objective `chatt`.", "`chat`"),
    ],
)
def test_mistake_is_pointed_at(written: str, at: int, said: str, hint: str) -> None:
    """A mistake names the character, what is wrong, and what was probably meant."""
    with pytest.raises(ConditionError) as raised:
        parse(written, slos=["chat"])

    assert said in raised.value.what
    assert raised.value.position == at
    assert hint in raised.value.hint
    assert raised.value.message.splitlines()[-1].index("^") == at + 2
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("(" * 40 + "cpu_usage > 80" + ")" * 40, "nests deeper than 32"),
        ("-" * 40 + "in_flight > 80", "nests deeper than 32"),
        ("not " * 40 + "in_flight > 80", "nests deeper than 32"),
        (" and ".join(["in_flight > 80"] * 17), "refers to at most 16 metrics"),
        ("in_flight > 1" + " " * 1000, "at most 1000 characters"),
        ("in_flight > " + "9" * 19, "one word too many"),
        ("in_flight > 1e300 * 1e300", "This number is too large."),
    ],
)
def test_size_is_bounded(written: str, said: str) -> None:
    """Length, depth, references and numbers have limits, which are told."""
    with pytest.raises(ConditionError, match=said):
        parse(written)
