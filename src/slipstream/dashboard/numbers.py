"""The dashboard's numbers at one moment, without its charts: for snapshots and for the terminal."""

from collections.abc import Sequence

from msgspec import Struct

from slipstream.core.readings import Readings
from slipstream.core.tile import Tile
from slipstream.dashboard.frame import tile_now
from slipstream.dashboard.series import SECOND_NS


class Seen(Struct, frozen=True):
    """One number.

    Attributes:
        title, metric, unit: which.
        value: None where nothing was seen.
        note: what the number is, such as `p95 of 120, last minute`.
    """

    title: str
    metric: str
    unit: str
    value: float | None
    note: str

    def __str__(self) -> str:
        value = "nothing seen yet" if self.value is None else f"{self.value:.4g} {self.unit}".rstrip()
        return f"{self.title}: {value}"


class Numbers(Struct, frozen=True):
    """All of them. `at`: seconds of the wall clock; `source`: `server`, or `process` where one is alone."""

    at: float
    source: str
    numbers: list[Seen]


def numbers(readings: Readings, tiles: Sequence[Tile], source: str) -> Numbers:
    """What `readings` tells of each tile now."""
    told = [(tile, tile_now(readings, tile)) for tile in tiles]
    return Numbers(
        readings.now_wall_ns() / SECOND_NS,
        source,
        [Seen(tile.title, tile.metric, tile.unit, now.value, now.note) for tile, now in told],
    )
