"""How late an event loop runs and how long Python's garbage collection holds it up. Both take nanoseconds."""

import asyncio
import gc
from collections.abc import Callable

from slipstream.core import clock

HEARTBEAT_SECONDS = 0.1

TakeNs = Callable[[int], None]


async def watch_lag(take: TakeNs, every_seconds: float = HEARTBEAT_SECONDS) -> None:
    """Tell `take` how late each heartbeat of the running loop came, in ns, until cancelled."""
    pause_ns = int(every_seconds * 1e9)
    while True:
        before_ns = clock.monotonic_ns()
        await asyncio.sleep(every_seconds)
        take(max(0, clock.monotonic_ns() - before_ns - pause_ns))


class GcPauses:
    """Tells how long every collection of this process took, in ns, from `start` to `stop`.

    The interpreter runs its callbacks around a collection in the thread that began it, with the GIL held,
    so a collection is never seen half.
    """

    def __init__(self, take: TakeNs) -> None:
        self._take = take
        self._began_ns = 0

    def start(self) -> None:
        """Begin to listen. Starting twice listens once."""
        if self._on_collection not in gc.callbacks:
            gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Listen no more."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_ns = clock.monotonic_ns()
        elif self._began_ns:
            self._take(clock.monotonic_ns() - self._began_ns)
            self._began_ns = 0
