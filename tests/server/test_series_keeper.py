"""What is stored of the live metrics, and what happens where it cannot be."""

import asyncio
import os
from pathlib import Path

import pytest

from slipstream.core.readings import Span
from slipstream.monitoring.aggregate import Aggregate, Source
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.slab import claim, make_slab
from slipstream.monitoring.slab_reader import SlabReader
from slipstream.server import series_keeper
from slipstream.server.series_keeper import SeriesKeeper

SECOND = 1_000_000_000
WALL = 1_800_000_000 * SECOND


class House:
    """A process that counts, what reads it, and what stores it, on a clock that is turned by hand."""

    def __init__(self, folder: Path, keeper: SeriesKeeper) -> None:
        folder.mkdir(exist_ok=True)
        self.file = make_slab(folder / f"slab-{os.urandom(4).hex()}", 1)
        self.slab = claim(next(folder.glob("slab-*")))
        self.meter = Meter(self.slab)
        self.keeper = keeper
        self.seconds = 0
        self.shift = 0
        source = Source("worker", SlabReader(self.file))
        self.readings = Aggregate([source], self.slab, now_ns=0, wall_ns=WALL, past=keeper.find)

    async def second(self) -> None:
        self.seconds += 1
        now_ns = self.seconds * SECOND
        self.readings.tick(now_ns, WALL + now_ns + self.shift)
        self.keeper.keep(self.readings, self.meter)
        if self.keeper._writing is not None:
            await asyncio.wait((self.keeper._writing,))

    async def close(self) -> None:
        await self.keeper.aclose(self.readings)
        self.slab.close()
        os.close(self.file)


def stored(path: Path, name: str, labels: dict[str, str], step: float = 10.0) -> list[float]:
    """The sums that a new keeper finds in the file."""
    keeper = SeriesKeeper(path)
    points = keeper.find(name, labels, Span(WALL - 7200 * SECOND, WALL + 7200 * SECOND, step))
    return [point.sum for point in points]


def test_everything_that_was_counted_is_stored(tmp_path: Path) -> None:
    """Each ten seconds, and what is left at the end; sums over labels are right, idle stretches cost nothing."""

    async def main() -> None:
        house = House(tmp_path / "s", SeriesKeeper(tmp_path / "metrics.db"))
        for second in range(47):
            if second < 20 or second > 40:
                house.meter.count("requests", "chat", "a", "u", by=2)
                house.meter.count("requests", "chat", "b", "u", by=1)
                house.meter.observe("ttft", 20.0, "a")
                house.meter.observe("ttft", 40.0, "b")
            await house.second()
        await house.close()

    asyncio.run(main())

    assert sum(stored(tmp_path / "metrics.db", "requests", {})) == 26 * 3
    assert sum(stored(tmp_path / "metrics.db", "requests", {"model": "b"})) == 26
    assert len(stored(tmp_path / "metrics.db", "requests", {})) == 3
    keeper = SeriesKeeper(tmp_path / "metrics.db")
    points = keeper.find("ttft", {}, Span(WALL, WALL + 100 * SECOND, 100.0))
    assert points[0].sketch is not None
    assert (points[0].count, points[0].sketch.count) == (52, 52)
    assert points[0].sketch.quantile(0.9) == pytest.approx(40.0, rel=0.011)
    assert points[0].sum == pytest.approx(26 * 60.0)


def test_a_past_range_goes_on_into_the_present(tmp_path: Path) -> None:
    """A new server tells what the last one stored and what it has itself, each once."""

    async def run(shift: int, asked: bool) -> list[float]:
        house = House(tmp_path / f"s{shift}", SeriesKeeper(tmp_path / "metrics.db"))
        house.shift = shift * SECOND
        for _ in range(33):
            house.meter.count("shed", "l", by=1)
            await house.second()
        found: list[float] = []
        if asked:
            span = Span(WALL - 3600 * SECOND, WALL + 3600 * SECOND, 10.0)
            found = [point.sum for point in house.readings.history("shed", {}, span)]
        await house.close()
        return found

    asyncio.run(run(0, asked=False))
    assert sum(asyncio.run(run(300, asked=True))) == 66


def test_a_disk_that_does_not_take_it_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be stored waits, then is dropped and counted; once it can be, storing goes on."""
    monkeypatch.setattr(series_keeper, "WAITING_MAX", 3)

    async def main() -> None:
        (tmp_path / "metrics.db").mkdir()  # a folder where the file should be
        house = House(tmp_path / "s", SeriesKeeper(tmp_path / "metrics.db"))
        for _ in range(80):
            house.meter.count("shed", "l", by=1)
            await house.second()
        assert not house.keeper.health()["healthy"]
        assert house.keeper.health()["detail"]
        assert len(house.keeper._waiting) <= 3
        assert (house.readings.total("series_points_dropped", {}) or 0) > 0
        (tmp_path / "metrics.db").rmdir()
        for _ in range(20):
            house.meter.count("shed", "l", by=1)
            await house.second()
        assert house.keeper.health()["healthy"]
        await house.close()

    asyncio.run(main())

    assert sum(stored(tmp_path / "metrics.db", "shed", {})) >= 40


@pytest.mark.parametrize("jump", [-7200, -15, 15, 86_400])
def test_a_clock_that_is_set_loses_nothing_but_its_place(tmp_path: Path, jump: int) -> None:
    """Forward or back: the counts are in the file, once each."""

    async def main() -> None:
        house = House(tmp_path / "s", SeriesKeeper(tmp_path / "metrics.db"))
        for second in range(60):
            if second == 30:
                house.shift = jump * SECOND
            house.meter.count("shed", "l", by=1)
            await house.second()
        await house.close()

    asyncio.run(main())
    keeper = SeriesKeeper(tmp_path / "metrics.db")
    span = Span(WALL - 2 * 86_400 * SECOND, WALL + 2 * 86_400 * SECOND, 60.0)
    total = sum(point.sum for point in keeper.find("shed", {}, span))

    assert total == 60


def test_sketches_are_of_sixteen_series_at_most(tmp_path: Path) -> None:
    """However many models there are; counts and sums are stored of all."""

    async def main() -> None:
        house = House(tmp_path / "s", SeriesKeeper(tmp_path / "metrics.db"))
        for _ in range(12):
            for model in range(12):
                house.meter.observe("ttft", 20.0, f"m{model}")
                house.meter.observe("itl", 20.0, f"m{model}")
            await house.second()
        await house.close()

    asyncio.run(main())
    keeper = SeriesKeeper(tmp_path / "metrics.db")
    span = Span(WALL, WALL + 100 * SECOND, 100.0)
    of_models = [
        keeper.find(name, {"model": f"m{model}"}, span)[0] for name in ("ttft", "itl") for model in range(12)
    ]

    assert all(point.count == 12 for point in of_models)
    assert sum(point.sketch is not None for point in of_models) <= 16
    assert keeper.find("ttft", {}, span)[0].sketch is not None
