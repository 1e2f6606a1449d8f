"""A rule replayed on the past says how often it would have fired, and with which `for` less often."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.given import Given
from slipstream.core.errors import BadRequest
from slipstream.core.histogram import sketch_of
from slipstream.core.readings import Labels, Point, Span
from slipstream.monitoring.alerts.backtest import backtest
from slipstream.monitoring.alerts.replay import Replay

S = 1_000_000_000
NOW = 1_700_000_000


class Past(Given):
    """A stored past of one look each step: gauge looks, counter growth, histogram values."""

    def __init__(self, **series: dict[int, object]) -> None:
        super().__init__()
        self.series = series
        self.wall_ns = NOW * S
        self.started_ns = (NOW - 7200) * S

    def fresh_since_ns(self) -> int:
        return self.started_ns

    def history(self, name: str, labels: Labels, span: Span) -> Sequence[Point]:
        points = []
        for second, value in sorted(self.series.get(name, {}).items()):
            if not span.start_ns <= second * S < span.end_ns:
                continue
            if isinstance(value, list):
                sketch = sketch_of(value, 1e6)
                points.append(Point(second * S, sum(value), len(value), min(value), max(value), sketch))
            else:
                points.append(Point(second * S, value, 1, value, value))
        return points


def busy(*ranges: tuple[int, int]) -> dict[int, object]:
    """In flight for the hour before now: 9 within the ranges (seconds of the hour), else 1."""
    start = NOW - 3600
    return {start + s: 9.0 if any(a <= s < b for a, b in ranges) else 1.0 for s in range(3600)}


def replayed(condition: str, past: Past, seconds: int = 3600):
    return backtest(condition, {}, past, (NOW - seconds) * S, NOW * S)


def test_episodes_are_counted() -> None:
    """Two bursts fire twice, at the seconds that they were seen; `for 3m` leaves the long one."""
    found = replayed("in_flight > 3", Past(in_flight=busy((100, 130), (1000, 1400))))

    assert (found.fired, found.firing_seconds, found.step_seconds) == (2, 430.0, 1.0)
    assert [(e.started_wall_ns // S - (NOW - 3600), e.value) for e in found.episodes] == [
        (101, "9"),
        (1001, "9"),
    ]
    assert found.episodes[0].ended_wall_ns // S - (NOW - 3600) == 131
    assert {v.for_seconds: v.fired for v in found.variants} == {0: 2, 60: 1, 180: 1, 600: 0, 1800: 0}
    assert found.verdict == "It would have fired 2 times; with `for 1 min`: once."


def test_seconds_of_before_the_start_are_not_made_up() -> None:
    """What an earlier server saw is there in steps of ten seconds, and is replayed in those."""
    past = Past(in_flight={NOW - 3600 + s: 9.0 for s in range(0, 3600, 10)})
    past.started_ns = (NOW - 60) * S

    found = replayed("in_flight > 3 for 1m", past)

    assert (found.fired, found.no_data, found.step_seconds) == (1, 1, 10.0)


def test_own_for_is_kept() -> None:
    """The clauses that are written hold."""
    found = replayed("in_flight > 3 for 3m", Past(in_flight=busy((100, 130), (1000, 1400))))

    assert (found.fired, found.verdict) == (1, "It would have fired once.")


def test_still_firing() -> None:
    """What has not ended has no end."""
    found = replayed("in_flight > 3", Past(in_flight=busy((3500, 3600))))

    assert (found.fired, found.episodes[0].ended_wall_ns) == (1, 0)


def test_no_data() -> None:
    """Without data nothing is claimed."""
    found = replayed("in_flight > 3", Past())

    assert (found.fired, found.no_data, found.verdict) == (
        0,
        found.looks,
        "There was no data to say so in this range.",
    )


def test_percentiles_of_the_window() -> None:
    """A percentile is taken of exactly the values of its window, with its minimum count."""
    values = {NOW - 600 + s: [10.0] * 5 if s < 300 else [9000.0] * 5 for s in range(600)}
    found = replayed("p95(response_time, 10s) > 5 s", Past(response_time=values), 600)

    assert [e.started_wall_ns // S - (NOW - 600) for e in found.episodes] == [301]
    assert found.no_data == 4  # until 20 values were seen


@pytest.mark.parametrize(
    ("seconds", "step"), [(3600, 1), (5 * 3600, 10), (20 * 86400, 60), (100 * 86400, 3600)]
)
def test_step_follows_what_is_stored(seconds: int, step: int) -> None:
    """The step is that of the tier that reaches back far enough; the window is at least one step."""
    assert replayed("in_flight > 3", Past(), seconds).step_seconds == step


@pytest.mark.parametrize("start", [NOW + 1, NOW - 500 * 86400])
def test_range_is_bounded(start: int) -> None:
    """A range in the future or of years is refused."""
    with pytest.raises(BadRequest, match="400 days"):
        backtest("in_flight > 3", {}, Past(), start * S, (NOW + 10) * S)


GROWTH = st.dictionaries(st.integers(0, 119), st.lists(st.floats(1, 1e4), min_size=1, max_size=5))


@given(GROWTH, st.integers(1, 50))
def test_windows_are_exact(values: dict[int, list[float]], window: int) -> None:
    """However the window moves, it holds what was stored of its seconds and nothing else."""
    start = NOW - 120
    past = Past(response_time={start + second: each for second, each in values.items()})
    replay = Replay(past, Span(start * S, NOW * S, 1.0), 50)
    for second in range(120):
        replay.move((start + second) * S)
        inside = [each for at, each in values.items() if second - window <= at <= second - 1]
        sketch = replay.sketch("response_time", {}, window)

        assert (sketch.buckets if sketch else {}) == sketch_of(
            [v for each in inside for v in each], 1e6
        ).buckets
        assert (replay.counter("response_time", {}, window) or 0) == sum(map(len, inside))
