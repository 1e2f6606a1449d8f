"""Where a user's program writes down the calls that it measures: series `response_time{source="app"}`.

One writer a slab, so a lock stands before it: calls are measured in any thread.
"""

import threading

from slipstream.core.metrics import LABEL_LENGTH_MAX
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.slab import Slab


class Calls:
    """Writes calls into a slab, for any thread."""

    def __init__(self, slab: Slab) -> None:
        self._lock = threading.Lock()
        self._slab: Slab | None = slab
        self._meter = Meter(slab)

    def add(self, name: str, milliseconds: float, *, failed: bool) -> None:
        """A call has ended. After `close` nothing is written."""
        name = name[:LABEL_LENGTH_MAX]
        with self._lock:
            if self._slab is None:
                return
            self._meter.observe("response_time", milliseconds, "app", "")
            self._meter.count("app_calls", name)
            if failed:
                self._meter.count("app_errors", name)

    def close(self) -> None:
        """Leave the slab to the next; what was counted stays counted."""
        with self._lock:
            if self._slab is not None:
                self._slab.close()
                self._slab = None
