"""When the next request goes out: open loops by the plan's times, closed loops when a user is ready.

Neither knows what a request is: a `Sender` sends, and tells when a user is free again. Nothing is ever
planned anew: what is late goes at once, and how late it was is written down.
"""

import heapq
from array import array
from bisect import bisect_right
from collections import deque
from typing import Protocol

import numpy as np

from slipstream.testing.load.plan import SECOND, Shard

BATCH = 64
"""Late requests sent before answers are read again."""

BACKOFF_FIRST_NS = 10_000_000
BACKOFF_LAST_NS = SECOND
"""A user whose connection fails tries again after the first, at last after the second."""


class Sender(Protocol):
    """Sends requests. `loop` must be set before the first one."""

    @property
    def room(self) -> int:
        """How many more requests can be written down."""
        ...

    def send(self, slot: int, number: int, intended_ns: int, lag_ns: int) -> None:
        """Send request `number` for the user in `slot`; times since the start."""
        ...

    def wait_for(self, at_ns: int) -> None:
        """Call the loop's `on_time` at this time since the start."""
        ...

    def history(self, slot: int) -> list[int]:
        """The requests of the user's session so far; the next one is put behind them."""
        ...


class OpenLoop:
    """Requests are due at the plan's times, whatever became of those before.

    With a bound on users a due request without a free one waits its turn, and keeps its intended time.
    """

    def __init__(self, shard: Shard, sender: Sender) -> None:
        self._times = array("q", shard.arrivals_ns.tobytes())  # plain ints come out faster than numpy's
        self._sender = sender
        self._free = shard.users if shard.users is not None else 1 << 60
        self._waiting: deque[tuple[int, int, int]] = deque()
        self._next = 0
        self.cap_hits = 0
        self.planned = len(self._times)
        self.is_full = False

    @property
    def is_over(self) -> bool:
        """Whether all that was planned has been sent."""
        return self._next == len(self._times) and not self._waiting

    @property
    def waiting(self) -> list[tuple[int, int]]:
        """Requests that wait for a user: intended time and lag."""
        return [(intended, lag) for _, intended, lag in self._waiting]

    def due(self, now: int) -> int:
        """How many requests were due by then."""
        return bisect_right(self._times, now)

    def on_time(self, now: int) -> None:
        """Send what is due."""
        times, sender = self._times, self._sender
        end = min(len(times), self._next + BATCH)
        while self._next < end and times[self._next] <= now:
            number = self._next
            self._next += 1
            intended = times[number]
            if self._free:
                if not sender.room:
                    self.is_full = True
                    return
                self._free -= 1
                sender.send(0, number, intended, now - intended)
            else:
                self.cap_hits += 1
                self._waiting.append((number, intended, now - intended))
        if self._next < len(times):
            sender.wait_for(times[self._next])

    def freed(self, slot: int, now: int, *, is_unreachable: bool) -> None:
        """A user is free again."""
        self._free += 1
        if self._waiting and self._sender.room:
            self._free -= 1
            number, intended, lag = self._waiting.popleft()
            self._sender.send(0, number, intended, lag)


class ClosedLoop:
    """Each user asks, waits for the answer, thinks, asks again."""

    def __init__(self, shard: Shard, sender: Sender) -> None:
        users = shard.users or 0
        everyone = users * shard.step
        self._shard = shard
        self._sender = sender
        self._left = shard.requests if shard.requests is not None else 1 << 60
        self._ready = [
            (shard.ramp_ns * (user * shard.step + shard.first) // max(1, everyone), user)
            for user in range(users)
        ]
        self._failures = [0] * users
        self._active = 0
        self._number = 0
        self._turns = shard.traffic.turns
        self._think = np.random.default_rng([shard.seed, 4, shard.first])
        heapq.heapify(self._ready)
        self.cap_hits = 0
        self.planned = 0
        self.is_full = False
        self.waiting: list[tuple[int, int]] = []

    @property
    def is_over(self) -> bool:
        """Whether no user will ask again."""
        return not self._active and (not self._ready or self._left <= 0)

    def due(self, now: int) -> int:
        """As many as were sent: nothing is due while its user waits."""
        return self.planned

    def on_time(self, now: int) -> None:
        """Send for the users that are ready."""
        ready = self._ready
        for _ in range(BATCH):
            if not ready or ready[0][0] > now:
                break
            intended, user = heapq.heappop(ready)
            self._ask(user, intended, now)
        if ready and self._left > 0 and ready[0][0] < self._shard.duration_ns:
            self._sender.wait_for(ready[0][0])
        else:
            ready.clear()

    def freed(self, slot: int, now: int, *, is_unreachable: bool) -> None:
        """The user's answer is there, or its failure."""
        self._active -= 1
        if now >= self._shard.duration_ns or self._left <= 0:
            return
        pause = self._pause(slot, is_unreachable=is_unreachable)
        if pause:
            heapq.heappush(self._ready, (now + pause, slot))
            self._sender.wait_for(self._ready[0][0])
        else:
            self._ask(slot, now, now)

    def _ask(self, user: int, intended: int, now: int) -> None:
        if self._left <= 0 or intended >= self._shard.duration_ns:
            return
        if not self._sender.room:
            self.is_full = True
            return
        self._left -= 1
        self._active += 1
        self.planned += 1
        number = self._number
        self._number += 1
        if self._turns > 1:
            history = self._sender.history(user)
            if len(history) == self._turns:
                history.clear()
        self._sender.send(user, number, intended, now - intended)

    def _pause(self, user: int, *, is_unreachable: bool) -> int:
        think = self._shard.think_ns
        if think and self._shard.think_kind == "exponential":
            think = round(self._think.exponential(think))
        if not is_unreachable:
            self._failures[user] = 0
            return think
        self._failures[user] += 1
        backoff = BACKOFF_FIRST_NS << min(10, self._failures[user] - 1)
        return max(think, min(backoff, BACKOFF_LAST_NS))


Loop = OpenLoop | ClosedLoop


def loop_of(shard: Shard, sender: Sender) -> Loop:
    """The loop that a shard asks for."""
    return OpenLoop(shard, sender) if shard.is_open else ClosedLoop(shard, sender)
