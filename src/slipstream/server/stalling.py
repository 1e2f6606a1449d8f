"""The stalls of one server process: watched for, counted in its metrics, told to whoever keeps them."""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from slipstream.config.profiling import Profiling
from slipstream.core.metrics import NS_PER_MS
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.pauses import GcPauses
from slipstream.profiling.stall_watch import StallWatch
from slipstream.profiling.stalls import Stall, gc_stall

_log = logging.getLogger(__name__)
_LOGGED_SECONDS = 1.0  # shorter ones are in the list, and would fill the log


class ProcessStalls:
    """Watches the running loop and the garbage collector of this process.

    Args:
        settings: whether, and from when on.
        process: as people are told: `worker 0`, `supervisor`.
        meter: where they are counted.
        tell: hears of each one, on the loop.
        others: how many requests beside the one of an id are under way.
    """

    def __init__(
        self,
        settings: Profiling,
        process: str,
        meter: Meter,
        *,
        tell: Callable[[Stall], object],
        others: Callable[[str], int],
    ) -> None:
        self.count = self._failed = 0
        self._settings = settings
        self._process = process
        self._meter = meter
        self._tell = tell
        self._others = others
        self._gc_ns = settings.gc_ms * NS_PER_MS
        self._watch = StallWatch(self._on_stall, victims=others, stall_seconds=settings.stall_ms / 1000)
        self._garbage = GcPauses(self._on_collection)

    def start(self) -> None:
        """Begin to watch, on the running loop; nothing where it is switched off."""
        if not self._settings.stalls:
            return
        self._watch.start()
        self._loop = asyncio.get_running_loop()
        self._garbage.start()

    def stop(self) -> None:
        """Watch no more."""
        self._garbage.stop()
        self._watch.stop()

    def _on_stall(self, stall: Stall) -> None:
        self.count += 1
        self._meter.count("loop_stalls", self._process)
        self._meter.count("loop_stalled", self._process, by=stall.seconds * 1000)
        self._meter.count("stall_looks_failed", self._process, by=self._watch.missed - self._failed)
        self._failed = self._watch.missed
        if stall.seconds >= _LOGGED_SECONDS:
            _log.warning("%s: %s", self._process, stall)
        self._tell(stall)

    def _on_collection(self, took_ns: int) -> None:
        if took_ns >= self._gc_ns:
            stall = gc_stall(took_ns / 1e9, None)
            seen = msgspec.structs.replace(stall, victims=self._others(stall.task))
            if not self._loop.is_closed():  # any thread may have been struck
                self._loop.call_soon_threadsafe(self._loop.call_soon, self._tell_collection, seen)

    def _tell_collection(self, stall: Stall) -> None:
        """The loop has turned since, and taken in what had come: now it shows who waited too."""
        victims = max(stall.victims or 0, self._others(stall.task))
        self._tell(msgspec.structs.replace(stall, victims=victims))
