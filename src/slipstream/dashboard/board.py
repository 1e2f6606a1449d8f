"""What the dashboard tells, whoever carries it: layout, charts of a range, the newest second, requests.

It knows no HTTP. In a server it stands on the supervisor's readings and records; alone, on those of its
own process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from slipstream.core.readings import Readings
from slipstream.core.record import Record
from slipstream.core.tile import Tile
from slipstream.dashboard import series
from slipstream.dashboard.charts import CHARTS, SECTIONS, TILES, Chart, chart_of
from slipstream.dashboard.frame import Frame, frame
from slipstream.dashboard.numbers import Numbers, numbers
from slipstream.dashboard.series import SECOND_NS, Series
from slipstream.monitoring.live import LiveFeed
from slipstream.store.records import RecordFilter
from slipstream.store.tiles import TileStore

T = TypeVar("T")
READING_MAX = 2
"""Ranges that are read at once; others wait, so that pages cannot take all of the supervisor's time."""


class Ask(Protocol):
    """Gives a question the readings, which stand still meanwhile."""

    def __call__(self, question: Callable[[Readings], T], /) -> T:
        """What `question` finds."""
        ...


class Page(Struct, frozen=True):
    """Which requests to list.

    Attributes:
        limit: at most so many.
        before: id of the last one of the page before.
        where: which of them.
    """

    limit: int
    before: str
    where: RecordFilter


FindRequests = Callable[[Page], Awaitable[Sequence[Record]]]


class Filters(Struct, frozen=True):
    """Values that requests may be filtered by."""

    models: list[str]
    routes: list[str]
    upstreams: list[str]


class Layout(Struct, frozen=True):
    """Everything that the page is built of.

    Attributes:
        tiles: numbers of the overview, in order.
        charts: with their lines.
        sections: id -> heading.
        filters: of the requests.
        now: seconds of the wall clock up to which all is told.
        records: whether requests are recorded here.
        alerts: whether rules can be watched here.
    """

    tiles: tuple[Tile, ...]
    charts: tuple[Chart, ...]
    sections: dict[str, str]
    filters: Filters
    now: float
    records: bool
    alerts: bool


class Board:
    """One dashboard.

    Args:
        ask: gives access to the readings.
        tiles: the metrics that users have added.
        requests: finds recorded requests; None where there are none.
        dropped: called for each viewer that was dropped for being too slow.
        alerts: whether there are routes for alerts beside.
    """

    def __init__(
        self,
        ask: Ask,
        tiles: TileStore,
        *,
        requests: FindRequests | None,
        dropped: Callable[[], None],
        alerts: bool = False,
    ) -> None:
        self.tiles = tiles
        self.live = LiveFeed(self._now, dropped)
        self.has_requests = requests is not None
        self._ask = ask
        self._requests = requests
        self._alerts = alerts
        self._reading = asyncio.Semaphore(READING_MAX)

    def layout(self) -> Layout:
        """What the page is built of."""
        filters, now_ns = self._ask(lambda readings: (_filters(readings), readings.now_wall_ns()))
        return Layout(
            shown(self.tiles.all()), charts(self.tiles.all()), SECTIONS, filters, now_ns / SECOND_NS,
            self._requests is not None, self._alerts,
        )  # fmt: skip

    def numbers(self) -> Numbers:
        """The numbers of all tiles now."""
        tiles = shown(self.tiles.all())
        return self._ask(lambda readings: numbers(readings, tiles, "server"))

    async def series(self, start_ns: int, end_ns: int, points: int, only: Sequence[str] = ()) -> Series:
        """The charts over a range, all but heat maps, or only some. Reads the stored past in a thread."""
        drawn = charts(self.tiles.all())
        asked = [chart for chart in drawn if (chart.id in only if only else chart.drawn == "lines")]
        async with self._reading:
            return await asyncio.to_thread(
                self._ask, lambda readings: series.read(readings, asked, start_ns, end_ns, points=points)
            )

    async def requests(self, page: Page) -> Sequence[Record]:
        """Recorded requests, newest first."""
        return await self._requests(page) if self._requests is not None else ()

    def _now(self) -> Frame:
        tiles, drawn = shown(self.tiles.all()), charts(self.tiles.all())
        return self._ask(lambda readings: frame(readings, tiles, drawn))


def shown(added: Sequence[Tile]) -> tuple[Tile, ...]:
    """Our tiles, each as users want it where they have added its metric, then what else they added.

    A metric is shown once: the last to add it names it.
    """
    theirs = {each.metric: each for each in added}
    ours = [theirs.pop(tile.metric, tile) for tile in TILES]
    return (*ours, *theirs.values())


def charts(added: Sequence[Tile]) -> tuple[Chart, ...]:
    """Our charts, then one of each added metric that ours do not show."""
    further = {each.metric: chart for each in added if (chart := chart_of(each)) is not None}
    return (*CHARTS, *further.values())


def _filters(readings: Readings) -> Filters:
    sets = readings.label_sets("requests")
    names = ("model", "route", "upstream")
    return Filters(*(sorted({labels[name] for labels in sets} - {""}) for name in names))
