"""The live stream: encoded once, a bounded number of viewers, a slow one is dropped."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.core.errors import Unavailable
from slipstream.monitoring import live
from slipstream.monitoring.aggregate import Aggregate, Source
from slipstream.monitoring.live import BEHIND_MAX, VIEWERS_MAX, LiveFeed
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.slab import claim, make_slab
from slipstream.monitoring.slab_reader import SlabReader

SECOND = 1_000_000_000


class House:
    """One process and its live stream."""

    def __init__(self, folder: Path) -> None:
        path = folder / "slab"
        self.file = make_slab(path, 1)
        self.slab = claim(path)
        self.meter = Meter(self.slab)
        self.readings = Aggregate([Source("s", SlabReader(self.file))], self.slab, now_ns=0, wall_ns=0)
        self.feed = LiveFeed(
            lambda: live.live_frame(self.readings), lambda: self.meter.count("live_viewers_dropped")
        )
        self.seconds = 0

    def second(self) -> None:
        self.seconds += 1
        self.readings.tick(self.seconds * SECOND, self.seconds * SECOND)
        self.feed.tell()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.slab.close()
    os.close(house.file)


def test_a_frame_tells_the_newest_second(house: House) -> None:
    """Growth, gauges and histograms of that second, and nothing of the one before."""

    async def main() -> list[bytes]:
        stream = house.feed.watch()
        frames = [await anext(stream)]
        house.meter.count("requests", "chat", "m", "u", by=3)
        house.meter.observe("ttft", 50.0, "m")
        house.meter.set("in_flight", 2)
        house.second()
        house.second()
        frames += [await anext(stream), await anext(stream)]
        house.feed.close()
        frames += [frame async for frame in stream]
        return frames

    frames = asyncio.run(main())
    first, second = (json.loads(frame.partition(b"data: ")[2]) for frame in frames[1:])

    assert first["metrics"]["requests"][0]["sum"] == 3
    assert first["metrics"]["requests"][0]["labels"] == {"route": "chat", "model": "m", "upstream": "u"}
    assert first["metrics"]["ttft"][0]["count"] == 1
    assert first["metrics"]["ttft"][0]["p95"] == pytest.approx(50.0, rel=0.011)
    assert set(second["metrics"]) == {"in_flight"}


def test_a_frame_is_encoded_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many watch; and not at all where nobody does."""
    made = []
    whole = live.live_frame
    monkeypatch.setattr(live, "live_frame", lambda readings: made.append(1) or whole(readings))

    async def main() -> None:
        house.second()
        assert made == []
        streams = [house.feed.watch() for _ in range(VIEWERS_MAX)]
        for stream in streams:
            await anext(stream)
        house.second()
        frames = [await anext(stream) for stream in streams]
        assert len(set(map(id, frames))) == 1
        house.feed.close()

    asyncio.run(main())
    assert made == [1]


def test_a_slow_viewer_is_dropped_and_counted(house: House) -> None:
    """One that reads nothing loses its stream; the others go on."""

    async def main() -> int:
        slow, quick = house.feed.watch(), house.feed.watch()
        await anext(slow)
        await anext(quick)
        for _ in range(BEHIND_MAX + 2):
            house.second()
            await anext(quick)
        assert house.feed.viewers == 1
        seen = len([frame async for frame in slow])
        house.feed.close()
        return seen

    assert asyncio.run(main()) == BEHIND_MAX
    house.second()
    assert house.readings.total("live_viewers_dropped", {}) == 1


def test_viewers_are_bounded_and_leave_room_when_they_go(house: House) -> None:
    """One too many is refused with a word; one that goes makes room."""

    async def main() -> None:
        streams = [house.feed.watch() for _ in range(VIEWERS_MAX)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(Unavailable, match="watching already"):
            house.feed.watch()
        await streams[0].aclose()  # type: ignore[attr-defined]
        await anext(house.feed.watch())
        house.feed.close()

    asyncio.run(main())
