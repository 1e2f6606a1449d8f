"""The supervisor's side of the metrics: makes the slabs, reads them each second, tells whoever listens.

It decides nothing about the numbers; a part of it that fails is counted and the rest goes on.
"""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from slipstream.core import clock
from slipstream.core.errors import SlipstreamError, StoreFailed
from slipstream.core.meters import Counters
from slipstream.core.readings import Labels, Point, Span
from slipstream.core.use import UseRow
from slipstream.monitoring.aggregate import Aggregate, Source
from slipstream.monitoring.live import LiveFeed, live_frame
from slipstream.monitoring.loop_use import LoopUse
from slipstream.monitoring.meter import Meter, attach
from slipstream.monitoring.pauses import GcPauses, watch_lag
from slipstream.monitoring.resource_meter import ResourceMeter
from slipstream.monitoring.slab import Slab, claim, link_slab, make_slab, private_slab
from slipstream.monitoring.slab_reader import SlabReader
from slipstream.monitoring.wide import RENEW_SECONDS
from slipstream.server.series_keeper import SeriesKeeper

GUESTS = 8
"""Processes beside the server that may write metrics of their own."""
SPARES = 4
"""Slabs for workers whose predecessors still drain."""
TICK_SECONDS = 1.0
_PROCESS = "supervisor"
_log = logging.getLogger(__name__)


class Measuring:
    """All metrics of one server, from the supervisor's point of view.

    Attributes:
        readings: what everybody reads (`core.readings.Readings`).
        meter: writes metrics of the supervisor itself.
        live: one frame a second for those who watch.

    Args:
        folder: where the slabs are found by others; made here, removed at the end.
        workers: how many slots there are.
        counters: the supervisor's own.
        keeper: stores and finds the past.
        data_folder: the folder whose disk must not fill up.
    """

    def __init__(
        self, folder: Path, workers: int, counters: Counters, *, keeper: SeriesKeeper, data_folder: Path
    ) -> None:
        self._folder = folder
        self._counters = counters
        self._keeper = keeper
        self._data_folder = data_folder
        self._files: dict[Path, int] = {}
        self._loop_use = LoopUse()
        self._listeners: list[Callable[[], None]] = []
        names = [f"worker-{slot}" for slot in range(workers)]
        names += [f"spare-{number}" for number in range(SPARES)]
        names += [f"guest-{number}" for number in range(GUESTS)]
        self._own = self._make([_PROCESS, *names])
        self.meter = Meter(self._own)
        attach(counters, self._own)
        sources = [Source(path.name, SlabReader(file)) for path, file in self._files.items()]
        self.readings = Aggregate(
            sources, self._own, now_ns=clock.monotonic_ns(), wall_ns=clock.wall_ns(), past=self._past
        )
        self.live = LiveFeed(lambda: live_frame(self.readings), self.viewer_dropped)
        self._garbage = GcPauses(lambda ns: self.meter.observe("gc_pause", ns / 1e6, _PROCESS))

    def each_second(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every look. It must be quick; our errors in it are logged and counted."""
        self._listeners.append(listener)

    def viewer_dropped(self) -> None:
        """A viewer of a live stream did not keep up."""
        self.meter.count("live_viewers_dropped")

    async def run(self) -> None:
        """Look each second, until cancelled."""
        self._garbage.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch_lag(self._on_lag))
            tasks.create_task(self._watch_resources())
            tasks.create_task(self._look_each_second())
            tasks.create_task(self._renew_past())

    async def aclose(self) -> None:
        """Store what is not stored yet, and leave nothing behind."""
        self._garbage.stop()
        self.readings.last_tick(clock.monotonic_ns(), clock.wall_ns())
        await self._keeper.aclose(self.readings)
        self._counters.leave()
        self._own.close()
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def loop_row(self, stalls: int) -> UseRow:
        """How the supervisor's event loop does, since it was asked last; on its own thread."""
        return self._loop_use.row(stalls)

    def _on_lag(self, late_ns: int) -> None:
        self.meter.observe("loop_lag", late_ns / 1e6, _PROCESS)
        self._loop_use.late(late_ns)

    def _make(self, names: list[str]) -> Slab:
        """All slabs; the one of this process. Where none can be made, one that nobody else sees."""
        epoch_ns = clock.wall_ns()
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for name in names:
                self._files[self._folder / name] = make_slab(self._folder / name, epoch_ns)
            return claim(self._folder / _PROCESS)
        except (OSError, StoreFailed) as error:
            _log.error("metrics of other processes cannot be shared: %s", error)
            self._counters.count("metrics_unshared")
            return private_slab()

    async def _look_each_second(self) -> None:
        while True:
            await asyncio.sleep(self.readings.seconds_to_next(clock.monotonic_ns()))
            if self._look():
                self._keeper.keep(self.readings, self.meter)

    async def _renew_past(self) -> None:
        """What windows of more than two hours need of the file, so that no look has to wait for it."""
        while True:
            await asyncio.sleep(RENEW_SECONDS / 2)
            try:
                await asyncio.to_thread(self.readings.renew_past)
            except StoreFailed as error:
                _log.warning("the stored metrics cannot be read: %s", error)

    def _look(self) -> bool:
        """One look at all slabs; whether it made a new frame."""
        with contextlib.suppress(
            OSError
        ):  # somebody may have deleted them; a worker to come must find its own
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for path, file in self._files.items():
                link_slab(path, file)
        if not self.readings.tick(clock.monotonic_ns(), clock.wall_ns()):
            return False
        for listener in (self.live.tell, *self._listeners):
            try:
                listener()
            except SlipstreamError as error:
                self.meter.count("alert_errors")
                _log.error("a reader of the metrics failed: %s", error)
        return True

    async def _watch_resources(self) -> None:
        resources = ResourceMeter(self.meter, self._data_folder)
        await asyncio.to_thread(resources.read)  # from which the next one counts
        while True:
            await asyncio.sleep(TICK_SECONDS)
            resources.write(await asyncio.to_thread(resources.read))

    def _past(self, name: str, labels: Labels, span: Span) -> list[Point]:
        return self._keeper.find(name, labels, span)
