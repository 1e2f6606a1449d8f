"""What a program measures of itself where no server lives: the same arrays, read the same way.

Nothing is opened and no thread runs before the first use. One thread then looks once a second, like a
server's supervisor does.
"""

import asyncio
import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from slipstream.core import clock
from slipstream.core.errors import StoreFailed, Unavailable
from slipstream.core.ports import RecordSink
from slipstream.core.readings import Readings
from slipstream.monitoring.aggregate import Aggregate, Source
from slipstream.monitoring.calls import Calls
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.recorder import MeasuredSink, RequestRecorder
from slipstream.monitoring.resource_meter import ResourceMeter
from slipstream.monitoring.slab import Slab, claim, make_slab, private_slab
from slipstream.monitoring.slab_reader import SlabReader

T = TypeVar("T")

TICK_SECONDS = 1.0
_log = logging.getLogger(__name__)
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
        event loop. Raises `Unavailable` where this process is refused what it takes.
        """
        state = self._started()
        with state.looked:
            if fresh:
                frame = state.readings.frame
                state.looked.wait_for(lambda: state.readings.frame > frame, 2 * TICK_SECONDS)
            return question(state.readings)

    def calls(self) -> Calls:
        """Where measured calls are written. Where this process is refused what that takes: nowhere."""
        state = self._started_or_none()
        return state.calls if state is not None else Calls(private_slab())

    def sink(self, inner: RecordSink) -> RecordSink:
        """What is to be given the records of the requests of this process, all from one thread."""
        state = self._started_or_none()
        return MeasuredSink(state.requests, inner) if state is not None else inner

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._state: _State | None = None
        self._is_told = False

    def _started(self) -> "_State":
        """Raises `Unavailable` where this process is refused the files or the thread that it takes."""
        with self._lock:
            if self._state is None:
                try:
                    with ThreadPoolExecutor(1) as thread:  # who asks may be on virtual time: its own alone
                        state = thread.submit(_State).result()
                    threading.Thread(target=state.run, name="slipstream-metrics", daemon=True).start()
                except (OSError, RuntimeError, StoreFailed) as error:
                    raise Unavailable(
                        f"Not measurable for now: {getattr(error, 'strerror', None) or error}.",
                        hint="It takes a dozen open files and a thread: `ulimit -n`, `ulimit -u`.",
                    ) from None
                self._state = state
            return self._state

    def _started_or_none(self) -> "_State | None":
        """For those whose own work must go on: that it is not measured is said once."""
        try:
            return self._started()
        except Unavailable as error:
            if not self._is_told:
                _log.error("%s", error)
            self._is_told = True
            return None


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
        self._resources = ResourceMeter(Meter(resources))
        self._resources.read()  # from which the next one counts
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
            self._resources.write(seen)
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
