"""The past as columns: true to what was counted, whole over restarts, thinned out without lying."""

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.slabs import SECOND, Measured, served
from slipstream.core.histogram import ERROR, Sketch, merged, sketch_of
from slipstream.core.readings import Labels, Point, Span
from slipstream.dashboard.charts import CHARTS, QUANTILES
from slipstream.dashboard.series import (
    POINTS_MAX,
    Picture,
    amount,
    heat_of,
    quantiles_of,
    read,
    rolling,
    step_for,
)

BY_ID = {chart.id: chart for chart in CHARTS}


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    return Measured(tmp_path)


def pictures(measured: Measured, seconds: int, *ids: str, points: int = 0) -> dict[str, Picture]:
    now = measured.aggregate.now_wall_ns()
    told = read(
        measured.aggregate,
        [BY_ID[each] for each in ids],
        now - seconds * SECOND,
        now,
        points=points or seconds,
    )
    return {picture.id: picture for picture in told.pictures}


def values(picture: Picture, label: str) -> list[float | None]:
    return next(line.values for line in picture.lines if line.label == label)


def test_whole_range_is_told_within_the_histograms_error(measured: Measured) -> None:
    """The sentence under a chart holds the range's own percentiles, not means of those of its steps."""
    chance = random.Random(7)
    times: list[float] = []

    def each() -> None:
        for _ in range(20):
            times.append(chance.lognormvariate(5, 0.8))
            measured.recorder.finish(served(ms=times[-1]))

    measured.tick(60, each)
    told = pictures(measured, 120, "response_time")["response_time"].takeaway
    times.sort()
    exact = {name: times[math.ceil(q * len(times)) - 1] for name, q in QUANTILES.items()}
    seen = {}
    for part in told.removesuffix(" of 1,200.").split(", "):
        name, value, unit = part.split()
        seen[name] = float(value) * {"ms": 1.0, "s": 1000.0}[unit]

    assert seen == {name: pytest.approx(value, rel=ERROR + 0.005) for name, value in exact.items()}


def test_rate_is_what_has_grown(measured: Measured) -> None:
    """A second of a counter tells its growth over the last five; 0 where nothing came and somebody watched."""
    measured.meter.set("memory_usage", 5.0)
    measured.tick(10)
    measured.recorder.finish(served())
    measured.tick(10)
    seen = values(pictures(measured, 10, "token_throughput")["token_throughput"], "written")

    assert seen == [2.0, 2.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_what_nobody_watched_is_unknown(measured: Measured) -> None:
    """Before the server began a counter is not 0, it is unknown."""
    measured.meter.set("memory_usage", 5.0)
    measured.tick(3, lambda: measured.recorder.finish(served()))
    seen = values(pictures(measured, 60, "token_throughput", points=60)["token_throughput"], "written")

    assert seen[:46] == [None] * 46
    assert seen[-1] is not None
    assert seen[-1] > 0.0


def test_lines_by_label_are_those_with_the_most(measured: Measured) -> None:
    """Of many models the busiest six are drawn, in the order of their names."""
    for number in range(10):
        for _ in range(number + 1):
            measured.recorder.finish(served(model=f"m{number}"))
    measured.tick(2)
    drawn = pictures(measured, 10, "models_tokens")["models_tokens"].lines

    assert [line.label for line in drawn] == ["m4", "m5", "m6", "m7", "m8", "m9"]
    assert all(line.labels == {"model": line.label} for line in drawn)


def test_optional_chart_without_data_is_left_out(measured: Measured) -> None:
    """A part that is off takes no room on the page; other charts say that nothing was seen."""
    measured.tick(3)
    seen = pictures(measured, 10, "cache_hit_rate", "ttft")

    assert list(seen) == ["ttft"]
    assert seen["ttft"].takeaway == "Nothing was seen in this range."


def test_stored_past_joins_the_fresh(measured: Measured) -> None:
    """A range that began before the server did: stored steps of ten seconds, then seconds, nothing twice."""
    measured.meter.set("memory_usage", 5.0)
    measured.tick(25, lambda: measured.recorder.finish(served()))
    asked: list[Span] = []

    def past(name: str, labels: Labels, span: Span) -> list[Point]:
        asked.append(span)
        if name != "tokens_output":
            return []
        return [Point(at, 50.0, 10, 0.0, 10.0) for at in range(span.start_ns, span.end_ns, 10 * SECOND)]

    measured.aggregate._past = past
    begun = measured.aggregate.fresh_since_ns()
    now = measured.aggregate.now_wall_ns()
    told = read(measured.aggregate, [BY_ID["token_throughput"]], begun - 40 * SECOND, now, points=200)
    seen = values(told.pictures[0], "written")
    split = -(-begun // (10 * SECOND)) * 10

    assert {span.step_seconds for span in asked} == {10.0}
    assert max(span.end_ns for span in asked) == split * SECOND
    assert all(value == 5.0 for at, value in zip(told.times, seen, strict=True) if at < split)
    assert [value for at, value in zip(told.times, seen, strict=True) if split <= at < now // SECOND - 1][
        1:
    ].count(10.0) >= 8


@given(st.floats(1, 5 * 366 * 86_400), st.integers(1, POINTS_MAX))
def test_step_gives_at_most_the_points_asked_for(seconds: float, points: int) -> None:
    """However long the range, the answer is no longer than the page is wide."""
    assert seconds / step_for(seconds, points) <= points * (1 + 1e-9)


SKETCHES = st.lists(st.lists(st.floats(0.001, 1e6), max_size=5), min_size=1, max_size=30)


@given(SKETCHES, st.integers(1, 8))
def test_rolling_window_is_the_merge_of_its_steps(lists: list[list[float]], steps: int) -> None:
    """Adding and taking away keeps exactly what the window holds."""
    sketches = [sketch_of(each, 1e6) if each else None for each in lists]
    points = [Point(0, 0.0, 1, 0.0, 0.0, sketch) if sketch is not None else None for sketch in sketches]

    for at, seen in enumerate(rolling(points, steps, 1e6)):
        window = merged(each for each in sketches[max(0, at - steps + 1) : at + 1] if each is not None)
        assert (seen.buckets if seen else None) == (window.buckets if window else None)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=200))
def test_quantiles_in_one_pass_are_the_same(given_values: list[float]) -> None:
    """One pass tells what asking each by itself tells."""
    sketch = sketch_of(given_values)

    assert quantiles_of(sketch, (0.5, 0.95, 0.99)) == [sketch.quantile(q) for q in (0.5, 0.95, 0.99)]


@given(SKETCHES)
def test_heat_map_counts_every_value_once(lists: list[list[float]]) -> None:
    """The cells add up to the values, and each lies within the bounds of its row."""
    sketches: list[Sketch | None] = [sketch_of(each, 1e6) if each else None for each in lists]
    heat = heat_of([Point(0, 0, 1, 0, 0, sketch) if sketch else None for sketch in sketches], 1e6)
    cells = list(zip(heat.cells[::3], heat.cells[1::3], heat.cells[2::3], strict=True))

    assert sum(count for _, _, count in cells) == sum(len(each) for each in lists)
    assert heat.edges == sorted(heat.edges)
    for step, row, _ in cells:
        assert any(heat.edges[row] * 0.99 <= value <= heat.edges[row + 1] * 1.01 for value in lists[step])


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [(1234.5, "ms", "1.23 s"), (12.34, "ms", "12.3 ms"), (0.0021, "ms", "2.1 µs"), (2_500_000.0, "bytes/s", "2.5 MB/s"),
     (0.25, "1", "25 %"), (12345.0, "tokens/s", "12,345 tokens/s"), (0.5, "USD/h", "$0.5 an hour")],
)  # fmt: skip
def test_amounts_have_their_unit(value: float, unit: str, said: str) -> None:
    """Three digits and the unit that people say."""
    assert amount(value, unit) == said
