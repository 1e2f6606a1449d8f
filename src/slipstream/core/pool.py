"""The deciding core of every pool: who gets which resource, who waits, what is closed.

Synchronous, told the time, ignorant of what it pools: connections to a model or to a database,
or anything else that is dear to open. It opens and closes nothing itself. Its shell does, and
owes it three things:

* a slot that comes out `OPENING` has no resource: open one and call `opened`, or `discard` it;
* a slot whose `retired` is set holds a resource to be closed now (`take_retired`);
* a ticket that comes out of `release` or `discard` has been served: wake its waiter.

Two facts hold between any two calls: nobody waits while something is free, and a slot is in one
place only. So a freed slot always goes to whoever has waited longest, and nobody can overtake.
"""

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

import msgspec

T = TypeVar("T")
W = TypeVar("W")

State = Literal["opening", "held", "idle", "gone"]
Why = Literal["idle", "aged", "lost", "ended", "broken", "abandoned", "unopened", "shut"]
"""Why a slot was given up: unused for too long; too old; closed by the other side; closed because the
other side said so; unusable after an error; let go of half-way; never opened; the pool was shut."""


class PoolLimits(msgspec.Struct, frozen=True):
    """The bounds of a pool; times in nanoseconds."""

    size: int
    """Most resources at once, those being opened included."""
    waiting: int
    """Most waiters; 0 = nobody waits."""
    wait_ns: int
    idle_ns: int
    """How long an unused resource is kept, unless it is one of the `minimum` last."""
    life_ns: int
    """Oldest a resource may get; each one's own is shorter by a random part of `jitter`."""
    minimum: int = 0
    """Resources to be kept open ahead of need."""
    jitter: float = 0.1


class Closed(msgspec.Struct, frozen=True):
    """How many slots were given up, by reason (see `Why`)."""

    idle: int = 0
    aged: int = 0
    lost: int = 0
    ended: int = 0
    broken: int = 0
    abandoned: int = 0
    unopened: int = 0
    shut: int = 0


class PoolSnapshot(msgspec.Struct, frozen=True):
    """A pool as it is now, and what it has counted since it was made."""

    open: int = 0
    """Resources open: idle or in use."""
    opening: int = 0
    idle: int = 0
    in_use: int = 0
    waiting: int = 0
    created: int = 0
    reused: int = 0
    refused: int = 0
    """Askers turned away because `waiting` was full."""
    timed_out: int = 0
    """Waiters who gave up after `wait_ns`."""
    stale: int = 0
    """Resources that turned out dead when they were used again."""
    closed: Closed = Closed()


class Slot(Generic[T]):
    """A place in the pool. Whoever holds it releases or discards it exactly once."""

    __slots__ = ("dies_ns", "resource", "retired", "since_ns", "state", "until_ns")

    def __init__(self, now_ns: int) -> None:
        self.state: State = "opening"
        self.resource: T | None = None
        self.retired: T | None = None
        self.since_ns = now_ns  # when it entered its state: the age of a hold, or of a rest
        self.dies_ns = 0
        self.until_ns = 0  # an idle one is not handed out from here on

    def take_retired(self) -> T | None:
        """The resource to close now, if there is one; asked twice, it is there once."""
        retired, self.retired = self.retired, None
        return retired


class Ticket(Generic[T, W]):
    """A place in the queue; `slot` is set when it has been served."""

    __slots__ = ("deadline_ns", "slot", "waiter")

    def __init__(self, waiter: W, deadline_ns: int) -> None:
        self.waiter = waiter
        self.deadline_ns = deadline_ns
        self.slot: Slot[T] | None = None


class Pool(Generic[T, W]):
    """A bounded set of slots over resources `T`, last in first out, with a fair queue of waiters `W`.

    Reuse is last in, first out, so that what is not needed falls idle and is closed.

    Args:
        limits: the bounds.
        chance: a number in [0, 1) for the jitter of life times.
    """

    __slots__ = (
        "_chance",
        "_closed",
        "_idle",
        "_queue",
        "_slots",
        "created",
        "is_shut",
        "limits",
        "refused",
        "reused",
        "stale",
        "timed_out",
    )

    def __init__(self, limits: PoolLimits, *, chance: Callable[[], float] = random.random) -> None:
        self.limits = limits
        self.is_shut = False
        self.created = self.reused = self.refused = self.timed_out = self.stale = 0
        self._chance = chance
        self._closed: dict[Why, int] = {}
        self._slots: set[Slot[T]] = set()
        self._idle: list[Slot[T]] = []
        self._queue: OrderedDict[Ticket[T, W], None] = OrderedDict()

    def take(self, now_ns: int) -> Slot[T] | None:
        """A slot, if one is free: `held` with a live resource, or `opening`. None: `enqueue`."""
        if self._idle:
            slot = self._idle.pop()
            if now_ns < slot.until_ns:
                slot.state = "held"
                slot.since_ns = now_ns
                self.reused += 1
                return slot
            self._retire(slot, "aged" if now_ns >= slot.dies_ns else "idle", now_ns)
            return slot
        return self._new(now_ns)

    def enqueue(self, waiter: W, now_ns: int) -> Ticket[T, W] | None:
        """A place at the end of the queue; None when the queue is full. Only after `take` gave nothing."""
        assert not self.is_shut
        if len(self._queue) >= self.limits.waiting:
            self.refused += 1
            return None
        ticket: Ticket[T, W] = Ticket(waiter, now_ns + self.limits.wait_ns)
        self._queue[ticket] = None
        return ticket

    def abandon(self, ticket: Ticket[T, W]) -> Slot[T] | None:
        """Leave the queue. A slot that comes back had been granted: release or discard it."""
        self._queue.pop(ticket, None)
        slot, ticket.slot = ticket.slot, None
        return slot

    def opened(self, slot: Slot[T], resource: T, now_ns: int) -> None:
        """An opening slot was filled; it is held now."""
        assert slot.state == "opening"
        limits = self.limits
        slot.state = "held"
        slot.resource = resource
        slot.since_ns = now_ns
        slot.dies_ns = now_ns + int(limits.life_ns * (1.0 - limits.jitter * self._chance()))
        self.created += 1

    def release(self, slot: Slot[T], now_ns: int) -> Ticket[T, W] | None:
        """A held slot is free again. The ticket that comes back now has it.

        A resource past its life is retired: the next waiter gets an opening slot.
        """
        assert slot.state == "held"
        is_old = now_ns >= slot.dies_ns or self.is_shut
        if not self._queue:
            if is_old:
                self._give_up(slot, "shut" if self.is_shut else "aged")
                return None
            slot.state = "idle"
            slot.since_ns = now_ns
            slot.until_ns = min(slot.dies_ns, now_ns + self.limits.idle_ns)
            self._idle.append(slot)
            return None
        ticket, _ = self._queue.popitem(last=False)
        ticket.slot = slot
        if is_old:
            self._retire(slot, "aged", now_ns)
        else:
            slot.since_ns = now_ns
            self.reused += 1
        return ticket

    def discard(self, slot: Slot[T], why: Why, now_ns: int) -> Ticket[T, W] | None:
        """Give up a slot, whatever its state. The ticket that comes back has an opening slot instead."""
        assert slot.state != "gone"
        if slot.state == "idle":
            self._idle.remove(slot)
        self._give_up(slot, why)
        if not self._queue:
            return None
        ticket, _ = self._queue.popitem(last=False)
        ticket.slot = self._new(now_ns)
        return ticket

    def vacate(self, slot: Slot[T], now_ns: int) -> None:
        """The resource of a held slot turned out dead; the holder keeps the place and opens another."""
        assert slot.state == "held"
        self.stale += 1
        self._retire(slot, "lost", now_ns)

    def sweep(self, now_ns: int) -> tuple[list[Slot[T]], list[Ticket[T, W]]]:
        """Idle slots that are given up now, and waiters whose time is over."""
        late: list[Ticket[T, W]] = []
        while self._queue and (first := next(iter(self._queue))).deadline_ns <= now_ns:
            del self._queue[first]
            late.append(first)
        self.timed_out += len(late)
        spare = len(self._slots) - self.limits.minimum
        gone: list[Slot[T]] = []
        kept: list[Slot[T]] = []
        for slot in self._idle:  # the longest unused first: the spare ones go in that order
            is_old = now_ns >= slot.dies_ns
            if now_ns < slot.until_ns or not (is_old or spare > 0):
                if now_ns >= slot.until_ns:  # one of the last: it stays for another while
                    slot.until_ns = min(slot.dies_ns, now_ns + self.limits.idle_ns)
                kept.append(slot)
                continue
            self._give_up(slot, "aged" if is_old else "idle")
            spare -= 1
            gone.append(slot)
        self._idle = kept
        return gone, late

    def due_ns(self) -> int | None:
        """When to call `sweep` next; None while there is nothing to wait for."""
        times = [slot.until_ns for slot in self._idle]
        if self._queue:
            times.append(next(iter(self._queue)).deadline_ns)
        return min(times, default=None)

    @property
    def is_cold(self) -> bool:
        """Whether fewer than `minimum` slots exist."""
        return len(self._slots) < self.limits.minimum and not self.is_shut

    def warm(self, now_ns: int) -> Slot[T] | None:
        """An opening slot while fewer than `minimum` exist: fill it, then release it."""
        return self._new(now_ns) if self.is_cold else None

    def shut(self) -> tuple[list[Slot[T]], list[Ticket[T, W]]]:
        """End: the idle slots to close and the waiters to turn away. Held ones go when released."""
        self.is_shut = True
        gone, self._idle = self._idle, []
        for slot in gone:
            self._give_up(slot, "shut")
        left = list(self._queue)
        self._queue.clear()
        return gone, left

    def snapshot(self) -> PoolSnapshot:
        """Where every slot is, and the counts."""
        opening = sum(slot.state == "opening" for slot in self._slots)
        return PoolSnapshot(
            open=len(self._slots) - opening,
            opening=opening,
            idle=len(self._idle),
            in_use=len(self._slots) - opening - len(self._idle),
            waiting=len(self._queue),
            created=self.created,
            reused=self.reused,
            refused=self.refused,
            timed_out=self.timed_out,
            stale=self.stale,
            closed=Closed(**self._closed),
        )

    def _new(self, now_ns: int) -> Slot[T] | None:
        if self.is_shut or len(self._slots) >= self.limits.size:
            return None
        slot: Slot[T] = Slot(now_ns)
        self._slots.add(slot)
        return slot

    def _retire(self, slot: Slot[T], why: Why, now_ns: int) -> None:
        """Take the resource out; the place stays."""
        self._closed[why] = self._closed.get(why, 0) + 1
        slot.state = "opening"
        slot.since_ns = now_ns
        slot.retired, slot.resource = slot.resource, None

    def _give_up(self, slot: Slot[T], why: Why) -> None:
        self._closed[why] = self._closed.get(why, 0) + 1
        self._slots.remove(slot)
        slot.state = "gone"
        if slot.resource is not None:  # a vacated slot may hold a retired one that nobody took yet
            slot.retired, slot.resource = slot.resource, None
