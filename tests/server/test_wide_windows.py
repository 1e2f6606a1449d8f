"""Windows that reach beyond memory: what is stored and what is in memory are one, and nothing is in both."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import pytest

from slipstream.core.histogram import sketch_of
from slipstream.core.readings import Labels, Point, Span
from slipstream.monitoring.aggregate import Aggregate, Source
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.slab import claim, make_slab
from slipstream.monitoring.slab_reader import SlabReader
from slipstream.monitoring.wide import RENEW_SECONDS, SLACK_SECONDS
from slipstream.server.series_keeper import SeriesKeeper
from slipstream.store.series import Row, SeriesStore

HOUR = 3600
SECOND = 1_000_000_000
NOW = 1_800_000_000 // HOUR * HOUR + 1_234
"""Not at the begin of an hour, of a minute, of ten seconds."""
TTFT = {"model": "m"}
REQUESTS = {"route": "chat", "model": "m", "upstream": "u"}


class Server:
    """A request and a first token a second, for as long as it was stored; the last part is in memory too."""

    def __init__(self, folder: Path, *, stored_hours: float, memory_hours: float, pace: int = 10) -> None:
        self.files = [make_slab(folder / "worker", 1), make_slab(folder / "own", 1)]
        self.slabs = [claim(folder / "worker"), claim(folder / "own")]
        self._meter = Meter(self.slabs[0])
        self._path = folder / "metrics.db"
        self._keeper = SeriesKeeper(self._path)
        self.asked: list[Span] = []
        self._store = SeriesStore(self._path)
        begun, ends = NOW - int(memory_hours * HOUR), NOW // 10 * 10
        since = int(ends - stored_hours * HOUR) // 10 * 10
        self._store_from(since, ends)
        self.aggregate = Aggregate(
            [Source("worker", SlabReader(self.files[0]))],
            self.slabs[1],
            now_ns=begun * SECOND,
            wall_ns=begun * SECOND,
            past=self._past,
        )
        self._at, self._pace = begun, pace
        self.go_on(NOW - begun)

    def go_on(self, seconds: int) -> None:
        """Let time pass, some seconds at a look."""
        for _ in range(seconds // self._pace):
            self._at += self._pace
            self._meter.count("requests", "chat", "m", "u", by=self._pace)
            self._meter.set("memory_bytes", 3.0)
            for _ in range(self._pace):
                self._meter.observe("ttft", 50.0, "m")
            self.aggregate.tick(self._at * SECOND, self._at * SECOND)

    def forget_sketches(self) -> None:
        """As if there had been more series than sketches are stored of."""
        connection = apsw.Connection(str(self._path))
        connection.execute("UPDATE point SET sketch = NULL")
        connection.close()

    def forget_between(self, since: float, until: float) -> None:
        """As if there had been no server in between."""
        connection = apsw.Connection(str(self._path))
        connection.execute("DELETE FROM point WHERE at >= ? AND at < ? AND tier < 3600", (since, until))
        connection.close()

    def close(self) -> None:
        """Let go of everything."""
        self._store.close()
        for slab in self.slabs:
            slab.close()
        for file in self.files:
            os.close(file)

    def _store_from(self, since: int, until: int) -> None:
        sketch = sketch_of([50.0] * 10, 1e6)
        rows = []
        for at in range(since, until, 10):
            rows.append(("requests", REQUESTS, Row(at, 10, 10, 1, 1)))
            rows.append(("ttft", TTFT, Row(at, 500.0, 10, 50.0, 50.0, sketch.encode())))
            rows.append(("memory_bytes", {}, Row(at, 10.0, 10, 1.0, 1.0)))
        self._store.insert(rows)
        self._store.roll(until)

    def _past(self, name: str, labels: Labels, span: Span) -> Sequence[Point]:
        self.asked.append(span)
        return self._keeper.find(name, labels, span)


@pytest.fixture(scope="module", params=[3.0, 0.75])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that runs for longer than it remembers, and one that was started anew within this hour."""
    made = Server(tmp_path_factory.mktemp("server"), stored_hours=40, memory_hours=request.param)
    yield made
    made.close()


@pytest.mark.parametrize("hours", [0.5, 1, 1.9, 2.5, 7, 20, 25, 30])
def test_a_long_window_counts_each_second_once(server: Server, hours: float) -> None:
    """A request a second is as many requests as the window has seconds, to a minute."""
    window = hours * HOUR
    sketch = server.aggregate.sketch("ttft", {}, window)

    assert server.aggregate.counter("requests", {}, window) == pytest.approx(window, abs=75)
    assert server.aggregate.rate("requests", {}, window) == pytest.approx(1.0, abs=0.01)
    assert sketch is not None
    assert sketch.count == pytest.approx(window, abs=75)


@pytest.mark.parametrize("seconds", [10, 70, 300, 620, 1500])
def test_a_restart_loses_nothing_of_a_window(tmp_path: Path, seconds: int) -> None:
    """A server that was started anew so long ago tells of the half hour before as if it had run on."""
    server = Server(tmp_path, stored_hours=3, memory_hours=seconds / HOUR)
    counted = server.aggregate.counter("requests", {}, HOUR / 2)
    rate = server.aggregate.rate("requests", {}, HOUR / 2)
    server.close()

    assert counted == pytest.approx(HOUR / 2, abs=25)
    assert rate == pytest.approx(1.0, abs=0.02)


def test_time_in_which_nobody_looked_does_not_lower_a_rate(tmp_path: Path) -> None:
    """A server that was down for half an hour had no requests in it, and no seconds either."""
    server = Server(tmp_path, stored_hours=5, memory_hours=1)
    server.forget_between(NOW - 3 * HOUR, NOW - 2.5 * HOUR)
    rate = server.aggregate.rate("requests", {}, 4 * HOUR)
    counted = server.aggregate.counter("requests", {}, 4 * HOUR)
    server.close()

    assert rate == pytest.approx(1.0, abs=0.01)
    assert counted == pytest.approx(3.5 * HOUR, abs=150)


def test_a_gauge_is_averaged_over_the_whole_window(tmp_path: Path) -> None:
    """Half of the window it was 1, half of it 3: its average is 2, and both are known."""
    server = Server(tmp_path, stored_hours=1, memory_hours=1 / 6, pace=1)
    stats = server.aggregate.gauge_stats("memory_bytes", {}, HOUR / 3)
    server.close()

    assert stats is not None
    assert stats.average == pytest.approx(2.0, abs=0.05)
    assert (stats.low, stats.high) == (1.0, 3.0)
    assert stats.count == pytest.approx(HOUR / 3, abs=25)


def test_a_rate_is_over_what_was_watched(tmp_path: Path) -> None:
    """A server of five hours has the rate of five hours, whatever the window."""
    server = Server(tmp_path, stored_hours=5, memory_hours=1)
    rate = server.aggregate.rate("requests", {}, 30 * HOUR)
    server.close()

    assert rate == pytest.approx(1.0, abs=0.02)


def test_renewed_windows_are_not_read_again(tmp_path: Path) -> None:
    """Where a thread renews what was read, those who ask never wait for the file."""
    server = Server(tmp_path, stored_hours=5, memory_hours=3)
    server.aggregate.counter("requests", {}, 4 * HOUR)
    for _ in range(2 * SLACK_SECONDS // RENEW_SECONDS):
        server.go_on(RENEW_SECONDS)
        server.aggregate.renew_past()
        server.asked.clear()
        counted = server.aggregate.counter("requests", {}, 4 * HOUR)

        assert not server.asked
        assert counted is not None
    server.close()


def test_quantiles_of_what_has_no_sketches_are_not_told(tmp_path: Path) -> None:
    """Two hours of values are not passed off as thirty hours of them."""
    server = Server(tmp_path, stored_hours=40, memory_hours=3)
    server.forget_sketches()
    whole = server.aggregate.sketch("ttft", {}, 30 * HOUR)
    fresh = server.aggregate.sketch("ttft", {}, HOUR)
    server.close()

    assert whole is None
    assert fresh is not None
