"""What a worker measures: its requests, its loop, its garbage, into the slab of its slot."""

import asyncio
import contextlib
import logging
from pathlib import Path

from slipstream.core.errors import StoreFailed
from slipstream.core.meters import Counters
from slipstream.core.ports import RecordSink
from slipstream.core.use import UseRow
from slipstream.monitoring.loop_use import LoopUse
from slipstream.monitoring.meter import Meter, attach
from slipstream.monitoring.pauses import GcPauses, watch_lag
from slipstream.monitoring.recorder import MeasuredSink, RequestRecorder
from slipstream.monitoring.slab import Slab, claim, private_slab

_log = logging.getLogger(__name__)


def claim_slot(folder: Path, slot: int, counters: Counters) -> Slab:
    """The slab of a worker's slot; a spare one while its former worker drains; else one that nobody reads."""
    for path in (folder / f"worker-{slot}", *sorted(folder.glob("spare-*"))):
        with contextlib.suppress(StoreFailed):
            return claim(path)
    counters.count("metrics_unshared")
    _log.error("worker %d found no slab in %s: its metrics are missing until it is restarted", slot, folder)
    return private_slab()


class WorkerMetrics:
    """The measuring side of one process that serves requests."""

    def __init__(self, slab: Slab, process: str, counters: Counters) -> None:
        self.meter = Meter(slab)
        self.requests = RequestRecorder(slab)
        self._slab = slab
        self._counters = counters
        self.process = process
        self._loop = LoopUse()
        self._garbage = GcPauses(lambda ns: self.meter.observe("gc_pause", ns / 1e6, process))
        self._lag: asyncio.Task[None] | None = None
        attach(counters, slab)

    def sink(self, inner: RecordSink) -> MeasuredSink:
        """What the way is to give its records to, so that each is measured."""
        return MeasuredSink(self.requests, inner)

    def start(self) -> None:
        """Begin to watch the running loop and the garbage collector."""
        self._garbage.start()
        self._lag = asyncio.get_running_loop().create_task(watch_lag(self._on_lag))

    def loop_row(self, stalls: int) -> UseRow:
        """How the event loop does, since it was asked last; on the loop's own thread."""
        return self._loop.row(stalls)

    def _on_lag(self, late_ns: int) -> None:
        self.meter.observe("loop_lag", late_ns / 1e6, self.process)
        self._loop.late(late_ns)

    def look(self, in_flight: int, oldest_ns: int) -> None:
        """Once a second: how many requests are under way, and for how long the oldest of them."""
        self.meter.set("in_flight", in_flight)
        self.meter.set("oldest_in_flight", oldest_ns / 1e6)

    def close(self) -> None:
        """Measure no more, and leave the slab to the next."""
        self._garbage.stop()
        if self._lag is not None:
            self._lag.cancel()
        self._counters.leave()
        self._slab.close()
