"""The timers of flights: each cancels its flight's task when what is waited for is overdue.

`asyncio.timeout` per wait costs a timer and several calls of `get_running_loop` (on Python 3.11 a system
call each); a timer a request still costs 3 us to set and to cancel. Here one timer serves all flights of a
loop: it rings when the first of them is due, and is set for the next one then. Those that are over by then
have only left a set.
"""

import asyncio
import math


class Watches:
    """The watches of all flights on one loop, and the one timer that serves them."""

    __slots__ = ("_handle", "_rings_at", "loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: set[Watch] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def expect(self, watch: "Watch", due: float) -> None:
        """`watch` is to be looked at when the loop's time is `due`."""
        self.waiting.add(watch)
        if due < self._rings_at:
            if self._handle is not None:
                self._handle.cancel()
            self._rings_at = due
            self._handle = self.loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._handle = None
        self._rings_at = math.inf
        # 1 ms of grace: a loop's timers have that resolution, and must not be set for what is past
        now = self.loop.time() + 0.001
        late = [watch for watch in self.waiting if watch.due <= now]
        for watch in late:
            self.waiting.discard(watch)
            watch.expire()
        if self.waiting:
            self._rings_at = min(watch.due for watch in self.waiting)
            self._handle = self.loop.call_at(self._rings_at, self._ring)


class Watch:
    """Belongs to one task. `expect` before a wait, `overdue` where its cancellation is caught."""

    __slots__ = ("_expired", "_task", "_watches", "due")

    def __init__(self, watches: Watches, task: "asyncio.Task[None]") -> None:
        self._watches = watches
        self._task = task
        self._expired = False
        self.due = 0.0

    def expect(self, seconds: float) -> None:
        """From now on something is to happen within `seconds`."""
        self.due = due = self._watches.loop.time() + seconds
        self._watches.expect(self, due)

    def overdue(self) -> bool:
        """Whether this watch cancelled the task, and nobody else did; the cancellation is then taken back."""
        if not self._expired:
            return False
        self._expired = False
        return self._task.uncancel() == 0

    def stop(self) -> None:
        """Nothing is waited for any more."""
        self._watches.waiting.discard(self)

    def expire(self) -> None:
        """It has not happened."""
        self._expired = True
        self._task.cancel()
