"""All slabs as one: totals, windows, gauges of several processes, lost slabs, and the past in steps."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.errors import BadRequest
from slipstream.core.histogram import sketch_of
from slipstream.core.readings import Span, derived
from slipstream.monitoring.aggregate import Aggregate, Source
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.slab import Slab, claim, make_slab
from slipstream.monitoring.slab_reader import SlabReader
from slipstream.monitoring.tracks import FRAMES, CounterTrack, GaugeTrack, SketchTrack

SECOND = 1_000_000_000
WALL = 1_800_000_000 * SECOND


class House:
    """Some processes that count, and the one that adds them up."""

    def __init__(self, folder: Path, processes: int = 2) -> None:
        self.files = [make_slab(folder / f"worker-{number}", 1) for number in range(processes)]
        own = make_slab(folder / "own", 1)
        self.slabs: list[Slab] = [claim(folder / f"worker-{number}") for number in range(processes)]
        self.own = claim(folder / "own")
        self.meters = [Meter(slab) for slab in self.slabs]
        sources = [Source(f"worker {at}", SlabReader(file)) for at, file in enumerate(self.files)]
        self.seconds = 0
        self.aggregate = Aggregate(
            [*sources, Source("own", SlabReader(own))], self.own, now_ns=0, wall_ns=WALL
        )
        self.files.append(own)

    def tick(self, seconds: int = 1, *, shift_ns: int = 0) -> None:
        """Let time pass and look."""
        self.seconds += seconds
        now_ns = self.seconds * SECOND
        self.aggregate.tick(now_ns, WALL + now_ns + shift_ns)

    def close(self) -> None:
        """Let go of everything."""
        for slab in (*self.slabs, self.own):
            slab.close()
        for file in self.files:
            os.close(file)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def test_processes_add_up(house: House) -> None:
    """Counters and histograms of all slabs are one; labels pick what is wanted."""
    house.meters[0].count("requests", "chat", "a", "u", by=2)
    house.meters[1].count("requests", "chat", "a", "u", by=3)
    house.meters[1].count("requests", "chat", "b", "u", by=4)
    house.meters[0].observe("ttft", 10.0, "a")
    house.meters[1].observe("ttft", 1000.0, "b")
    house.tick()
    readings = house.aggregate

    assert readings.counter("requests", {}, 60) == 9
    assert readings.counter("requests", {"model": "a"}, 60) == 5
    assert readings.counter("requests", {"model": "none"}, 60) is None
    sketch = readings.sketch("ttft", {}, 60)
    assert sketch is not None
    assert sketch.count == 2
    assert sketch.quantile(1.0) == pytest.approx(1000.0, rel=0.011)
    assert readings.label_sets("ttft") == [{"model": "a"}, {"model": "b"}]


def test_windows_end(house: House) -> None:
    """What is older than the window is not counted, to the second."""
    house.tick()
    house.meters[0].count("requests", "chat", "a", "u", by=5)
    house.meters[0].observe("ttft", 10.0, "a")
    house.tick()
    for _ in range(9):
        house.tick()

    assert house.aggregate.counter("requests", {}, 10) == 5
    assert house.aggregate.counter("requests", {}, 9) == 0
    assert house.aggregate.sketch("ttft", {}, 10) is not None
    assert house.aggregate.sketch("ttft", {}, 9) is None
    assert house.aggregate.total("requests", {}) == 5


def test_rates_of_a_young_server_are_over_its_life(house: House) -> None:
    """Ten requests in the first two seconds are five a second, whatever the window."""
    house.meters[0].count("requests", "chat", "a", "u", by=10)
    house.tick(2)

    assert house.aggregate.rate("requests", {}, 60) == pytest.approx(5.0)
    assert derived(house.aggregate, "throughput", {}, 60) == pytest.approx(5.0)


def test_ratios_of_nothing_are_none(house: House) -> None:
    """Neither a division by zero nor a zero: an idle server has no error rate."""
    house.tick()
    assert derived(house.aggregate, "error_rate", {}, 60) is None
    house.meters[0].count("requests", "chat", "a", "u", by=4)
    house.meters[0].count("errors", "upstream_failed", "a", "u", by=1)
    house.tick()
    assert derived(house.aggregate, "error_rate", {}, 60) == pytest.approx(25.0)
    assert derived(house.aggregate, "error_rate", {"error_type": "upstream_failed"}, 60) == pytest.approx(
        25.0
    )


def test_gauges_of_processes_add_up_or_the_highest_counts(house: House) -> None:
    """Requests in flight are added up, of the oldest the oldest counts; a gone process has none."""
    for meter, flying, oldest in zip(house.meters, (3, 4), (100.0, 9000.0), strict=True):
        meter.set("in_flight", flying)
        meter.set("oldest_in_flight", oldest)
    house.tick()
    assert house.aggregate.gauge("in_flight", {}) == 7
    assert house.aggregate.gauge("oldest_in_flight", {}) == 9000.0

    house.slabs.pop().close()
    house.tick()
    assert house.aggregate.gauge("in_flight", {}) == 3
    stats = house.aggregate.gauge_stats("in_flight", {}, 60)
    assert stats is not None
    assert (stats.low, stats.high, stats.count) == (3, 7, 2)


def test_response_times_are_the_gateways_where_it_has_any(house: House) -> None:
    """A bare `response_time` means the app's only while the gateway has seen nothing."""
    house.meters[0].observe("response_time", 5.0, "app", "f")
    house.tick()
    alone = house.aggregate.sketch("response_time", {}, 60)
    house.meters[0].observe("response_time", 700.0, "gateway", "m")
    house.tick()
    both = house.aggregate.sketch("response_time", {}, 60)

    assert alone is not None
    assert alone.low == pytest.approx(5.0, rel=0.011)
    assert both is not None
    assert (both.count, both.low) == (1, pytest.approx(700.0, rel=0.011))


def test_a_slab_that_is_lost_is_counted_once_and_the_rest_is_read(house: House) -> None:
    """A slab that turns unreadable costs its own numbers only."""
    house.meters[0].count("shed", "l", by=2)
    house.tick()
    os.pwrite(house.files[1], b"garbage!", 0)
    house.meters[0].count("shed", "l", by=2)
    house.tick()
    house.tick()
    house.tick()

    assert house.aggregate.total("shed", {}) == 4
    assert house.aggregate.total("slabs_lost", {}) == 1


def test_a_clock_that_is_set_is_counted(house: House) -> None:
    """A jump of the wall clock is seen, and windows go on by the monotonic one."""
    house.meters[0].count("shed", "l", by=2)
    house.tick()
    house.tick(shift_ns=-3600 * SECOND)
    house.tick(shift_ns=-3600 * SECOND)

    assert house.aggregate.counter("shed", {}, 60) == 2
    assert house.aggregate.total("clock_steps", {}) == 1


def test_two_looks_in_a_second_are_one(house: House) -> None:
    """And a second in which nobody looked is not missing in what comes after."""
    assert house.aggregate.tick(SECOND, WALL + SECOND)
    assert not house.aggregate.tick(SECOND + 1, WALL + SECOND + 1)
    house.meters[0].count("shed", "l", by=7)
    house.seconds = 30
    house.tick()

    assert house.aggregate.counter("shed", {}, 5) == 7
    assert house.aggregate.counter("shed", {}, 60) == 7


def test_the_past_comes_in_steps(house: House) -> None:
    """Counters as sums, gauges as what they were, histograms with their sketch."""
    for second in range(40):
        house.meters[0].count("shed", "l", by=2)
        house.meters[0].set("in_flight", second)
        house.meters[0].observe("ttft", 10.0 + second, "m")
        house.tick()
    span = Span(WALL + 10 * SECOND, WALL + 30 * SECOND, 10.0)

    assert [point.sum for point in house.aggregate.history("shed", {}, span)] == [20, 20]
    gauge = house.aggregate.history("in_flight", {}, span)[0]
    assert (gauge.low, gauge.high, gauge.count) == (10, 19, 10)
    point = house.aggregate.history("ttft", {}, span)[1]
    assert point.sketch is not None
    assert point.sketch.quantile(0.5) == pytest.approx(34.0, rel=0.011)


def test_an_unknown_name_is_a_clear_error(house: House) -> None:
    """Asking for what is not declared, or for a quantile of a counter, says so."""
    with pytest.raises(BadRequest, match="There is no metric `nonsense`"):
        house.aggregate.counter("nonsense", {}, 60)
    with pytest.raises(BadRequest, match="Did you mean `response_time`"):
        house.aggregate.sketch("respnse_time", {}, 60)
    with pytest.raises(BadRequest):
        house.aggregate.sketch("requests", {}, 60)
    assert house.aggregate.counter("requests", {"no_label": "x"}, 60) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(0.01, 1e5), max_size=3), min_size=1, max_size=200), st.data())
def test_any_stretch_of_a_sketch_is_exact(seconds: list[list[float]], data: st.DataObject) -> None:
    """Blocks of ten and sixty seconds hold what their seconds held."""
    track = SketchTrack(0)
    for frame, values in enumerate(seconds):
        if values:
            sketch = sketch_of(values, 1e6)
            track.add(sketch.total, sketch.buckets)
        track.end(frame)
    first = data.draw(st.integers(0, len(seconds) - 1))
    last = data.draw(st.integers(first, len(seconds) - 1))

    found = track.sketch(first, last, 1e6)

    wanted = sketch_of([value for values in seconds[first : last + 1] for value in values], 1e6)
    assert (found.buckets if found else {}) == wanted.buckets


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=50), st.integers(0, 3 * FRAMES), st.integers(1, 60))
def test_growth_of_any_window_is_exact(growths: list[int], born: int, window: int) -> None:
    """Also across the end of the ring."""
    track = CounterTrack(born)
    for at, growth in enumerate(growths):
        track.add(growth)
        track.end(born + at)

    assert track.growth(born + len(growths) - 1, window) == sum(growths[-window:])
    assert track.steps(born, born + len(growths) - 1) == growths


def test_rings_forget_what_is_too_old() -> None:
    """After two hours the oldest second is gone, and memory stays as it is."""
    gauge, counter, sketch = GaugeTrack(0), CounterTrack(0), SketchTrack(0)
    for frame in range(FRAMES + 100):
        gauge.now = float(frame)
        counter.add(1)
        sketch.add(1e6, {400: 1})
        for track in (gauge, counter, sketch):
            track.end(frame)
    newest = FRAMES + 99

    assert gauge.values(0, 150)[0] == 100.0
    assert counter.growth(newest, FRAMES - 1) == FRAMES - 1
    whole = sketch.sketch(newest - 7199, newest, 1e6)
    assert whole is not None
    assert math.isclose(whole.count, 7200, rel_tol=0.01)
    assert sum(len(blocks) for blocks in sketch._blocks.values()) <= 600 + 720 + 120
