"""What a program measures of itself where no server lives: the same arrays, read the same way.

Nothing is opened and no thread runs before the first use. One thread then looks once a second, like a
server's supervisor does.
"""

import asyncio
import contextlib
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from slipstream.core import clock
from slipstream.core.ports import RecordSink
from slipstream.core.readings import Readings
from slipstream.monitoring.aggregate import Aggregate, Source
from slipstream.monitoring.calls import Calls
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.recorder import MeasuredSink, RequestRecorder
from slipstream.monitoring.resources import ResourceReader
from slipstream.monitoring.slab import Slab, claim, make_slab
from slipstream.monitoring.slab_reader import SlabReader

T = TypeVar("T")

TICK_SECONDS = 1.0
_WRITERS = ("calls", "requests", "resources")


class OwnProcess:
    """The metrics of this process. Any thread may use it; a forked child begins anew."""

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def read(self, question: Callable[[Readings], T], *, fresh: bool = False) -> T:
        """What `question` finds in the readings, which stand still meanwhile.

        `fresh` waits, at most a second, until all that was counted up to now is in them; not for an
        event loop.
        """
        state = self._started()
        with state.looked:
            if fresh:
                frame = state.readings.frame
                state.looked.wait_for(lambda: state.readings.frame > frame, 2 * TICK_SECONDS)
            return question(state.readings)

    def calls(self) -> Calls:
        """Where measured calls are written."""
        return self._started().calls

    def sink(self, inner: RecordSink) -> MeasuredSink:
        """What is to be given the records of the requests of this process, all from one thread."""
        return MeasuredSink(self._started().requests, inner)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._state: _State | None = None

    def _started(self) -> "_State":
        with self._lock:
            if self._state is None:
                with ThreadPoolExecutor(1) as thread:  # who asks first may be on virtual time: its own alone
                    self._state = thread.submit(_State).result()
                threading.Thread(target=self._state.run, name="slipstream-metrics", daemon=True).start()
            return self._state


class _State:
    """Slabs, who writes them, and who reads them."""

    def __init__(self) -> None:
        self.looked = threading.Condition()
        """Held while the readings change; told after each look."""
        slabs: list[Slab] = []
        sources: list[Source] = []
        with tempfile.TemporaryDirectory(prefix="slipstream-") as folder:
            for name in _WRITERS:
                path = Path(folder, name)
                sources.append(Source(name, SlabReader(make_slab(path, clock.wall_ns()))))
                slabs.append(claim(path))
        calls, requests, resources = slabs
        self.calls = Calls(calls)
        self.requests = RequestRecorder(requests)
        self._meter = Meter(resources)
        self._resources = ResourceReader()
        self._told: dict[tuple[str, tuple[str, ...]], float] = {}
        self.readings = Aggregate(
            sources, resources, now_ns=clock.monotonic_ns(), wall_ns=clock.wall_ns(), past=None
        )

    def run(self) -> None:
        """Look once a second, for as long as the process lives."""
        pause = threading.Event()
        while not pause.wait(TICK_SECONDS):
            self.look()

    def look(self) -> None:
        """One look at everything."""
        seen = self._resources.read()
        with self.looked:
            for name, labels, value in seen.gauges():
                self._meter.set(name, value, *labels.values())
            for name, labels, value in seen.counters():
                key = name, tuple(labels.values())
                self._meter.count(name, *key[1], by=value - self._told.get(key, 0.0))
                self._told[key] = value
            self.readings.tick(clock.monotonic_ns(), clock.wall_ns())
            self.looked.notify_all()


OWN_PROCESS = OwnProcess()
"""The one of this process."""


def on_a_loop() -> bool:
    """Whether the caller runs on an event loop, which must not wait."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return False
