"""The one timer of a flight: it cancels the flight's task when what is waited for is overdue.

`asyncio.timeout` per wait costs a timer and several calls of `get_running_loop` (on Python 3.11 a system
call each); this costs one timer a request, which is looked at again when it fires instead of being moved.
"""

import asyncio


class Watch:
    """Belongs to one task on one loop. `expect` before a wait, `overdue` where its cancellation is caught."""

    __slots__ = ("_due", "_expired", "_handle", "_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
        self._loop = loop
        self._task = task
        self._due = 0.0
        self._expired = False
        self._handle: asyncio.TimerHandle | None = None

    def expect(self, seconds: float, *, look: float) -> None:
        """From now on something is to happen within `seconds`; looked at after `look` at the latest."""
        now = self._loop.time()
        self._due = now + seconds
        if self._handle is None:
            self._handle = self._loop.call_at(now + min(seconds, look), self._look)
        elif self._handle.when() > self._due:
            self._handle.cancel()
            self._handle = self._loop.call_at(self._due, self._look)

    def overdue(self) -> bool:
        """Whether this watch cancelled the task, and nobody else did; the cancellation is then taken back."""
        if not self._expired:
            return False
        self._expired = False
        return self._task.uncancel() == 0

    def stop(self) -> None:
        """Nothing is waited for any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        self._handle = None
        # 1 ms of grace: a loop's timers have that resolution, and must not be set for what is past
        if self._loop.time() >= self._due - 0.001:
            self._expired = True
            self._task.cancel()
        else:
            self._handle = self._loop.call_at(self._due, self._look)
