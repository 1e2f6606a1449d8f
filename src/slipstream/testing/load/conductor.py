"""Drives a loop by a clock and writes down its end; what a request is, its two kinds of sender know."""

import asyncio
from abc import ABC, abstractmethod

from slipstream.core import clock
from slipstream.testing.load.columns import Recorder
from slipstream.testing.load.effort import CpuShare
from slipstream.testing.load.loops import Loop, loop_of
from slipstream.testing.load.pacer import Pacer
from slipstream.testing.load.plan import SECOND, Shard
from slipstream.testing.load.run import RunOptions, Stopped
from slipstream.testing.load.samples import NEVER

SWEEP_SECONDS = 0.02
"""How often time-outs and limits are looked at."""


class Conductor(ABC):
    """One worker's run, from `begin` to `close`. Built on the event loop that it runs on.

    Args:
        shard: what to send.
        options: limits.
        recorder: where it is written down.
        over: gets why it ended, when there is nothing more to do.
        bytes_max: received bytes at which it ends.
    """

    def __init__(
        self,
        shard: Shard,
        options: RunOptions,
        recorder: Recorder,
        over: "asyncio.Future[Stopped]",
        *,
        bytes_max: int,
    ) -> None:
        self.recorder = recorder
        self.start = 0
        self.cpu = CpuShare()
        self.loop_lags: list[int] = []
        self.is_ended = False
        self._over = over
        self._bytes_max = bytes_max
        self._plan_end = shard.duration_ns
        self._latest = shard.duration_ns + round(options.grace_seconds * SECOND)
        self._pacer = Pacer(self._on_time)
        self._is_armed = False
        self._sweep_due = 0
        self._timer: asyncio.TimerHandle | None = None
        self._histories: dict[int, list[int]] = {}
        self.loop: Loop = loop_of(shard, self)

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Whether a request is under way."""

    @property
    @abstractmethod
    def opened(self) -> int:
        """Connections opened so far."""

    @abstractmethod
    def send(self, slot: int, number: int, intended_ns: int, lag_ns: int) -> None:
        """Send request `number` for the user in `slot`; times since the start."""

    @abstractmethod
    def look_after(self, now: int) -> None:
        """Called every `SWEEP_SECONDS`."""

    @abstractmethod
    async def drop(self) -> None:
        """Write down what is unfinished and end it."""

    @property
    def room(self) -> int:
        """How many more requests can be written down."""
        return self.recorder.rows_max - self.recorder.counts.rows

    def history(self, slot: int) -> list[int]:
        """The requests of the user's session so far."""
        return self._histories.setdefault(slot, [])

    def wait_for(self, at_ns: int) -> None:
        """Look at the loop again at this time since the start."""
        self._is_armed = True
        self._pacer.arm(self.start + at_ns)

    def begin(self) -> None:
        """Time zero is now."""
        self.start = self._sweep_due = now = clock.monotonic_ns()
        self.cpu.begin(now)
        self._sweep()
        self._on_time()

    def stop(self, why: Stopped) -> None:
        """End the run; nothing more is sent."""
        if not self.is_ended:
            self.is_ended = True
            self._pacer.close()
            if self._timer is not None:
                self._timer.cancel()
            if self.start:
                self.cpu.end(clock.monotonic_ns())
            if not self._over.done():
                self._over.set_result(why)

    async def close(self) -> None:
        """Stop, and write down what waited or was under way."""
        self.stop("requested")
        self.recorder.counts.waiting = len(self.loop.waiting)
        for intended, lag in self.loop.waiting:
            if not self.room:
                break
            self.recorder.begin(intended, NEVER, lag)
        await self.drop()
        self.recorder.publish()

    def released(self, slot: int, at: int, *, is_unreachable: bool) -> None:
        """A request is over and written down; its user may go on."""
        if not self.is_ended:
            self.loop.freed(slot, at, is_unreachable=is_unreachable)
            self._end_if_over()

    def _on_time(self) -> None:
        if self.is_ended:
            return
        self._is_armed = False
        self.loop.on_time(clock.monotonic_ns() - self.start)
        if not self._is_armed:
            self._pacer.disarm()
        self._end_if_over()

    def _end_if_over(self) -> None:
        loop = self.loop
        if loop.is_full:
            self.stop("requests_max")
        elif loop.is_over and not self.is_busy:
            self.stop("finished")

    def _sweep(self) -> None:
        """Limits; and how late this event loop's timers are."""
        now = clock.monotonic_ns()
        self.loop_lags.append(now - self._sweep_due)
        self._sweep_due = now + round(SWEEP_SECONDS * SECOND)
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        self.look_after(now)
        counts = self.recorder.counts
        counts.planned = self.loop.planned
        self.recorder.publish()
        if now - self.start >= self._plan_end:
            self.cpu.end(now)
        if counts.received_bytes > self._bytes_max:
            self.stop("bytes_max")
        elif now - self.start > self._latest:
            self.stop("finished")
