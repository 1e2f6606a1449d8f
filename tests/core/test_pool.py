"""The deciding core of a pool: every resource in one place, every waiter in turn, all bounds kept."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from slipstream.core.pool import Pool, PoolLimits, Slot, Ticket

LIMITS = PoolLimits(size=2, waiting=2, wait_ns=100, idle_ns=50, life_ns=1000, jitter=0.0)


def made(pool: Pool[str, int], name: str, now_ns: int = 0) -> Slot[str]:
    """A held slot with a resource of that name."""
    slot = pool.take(now_ns)
    assert slot is not None
    pool.opened(slot, name, now_ns)
    return slot


def test_last_released_is_taken_first() -> None:
    """Reuse is last in, first out."""
    pool: Pool[str, int] = Pool(LIMITS)
    a, b = made(pool, "a"), made(pool, "b")
    pool.release(b, 1)
    pool.release(a, 2)
    assert pool.take(3) is a


def test_waiters_are_served_first_come_first_served() -> None:
    """A freed slot goes to whoever waits longest; nobody overtakes."""
    pool: Pool[str, int] = Pool(LIMITS)
    a, b = made(pool, "a"), made(pool, "b")
    assert pool.take(0) is None
    first, second = pool.enqueue(1, 0), pool.enqueue(2, 0)
    assert pool.enqueue(3, 0) is None
    assert pool.release(b, 1) is first
    assert first is not None
    assert first.slot is b
    assert pool.take(1) is None
    assert pool.discard(a, "broken", 2) is second
    assert second is not None
    assert second.slot is not None
    assert (second.slot.state, second.slot.resource, a.retired) == ("opening", None, "a")
    assert pool.snapshot().refused == 1


def test_one_that_leaves_the_queue_is_passed_over() -> None:
    """A waiter who left gets nothing; one who leaves with a grant gives it back."""
    pool: Pool[str, int] = Pool(LIMITS)
    a, b = made(pool, "a"), made(pool, "b")
    first, second = pool.enqueue(1, 0), pool.enqueue(2, 0)
    assert first is not None
    assert second is not None
    assert pool.abandon(first) is None
    assert pool.release(a, 1) is second
    assert pool.abandon(second) is a
    assert pool.release(a, 1) is None
    assert pool.release(b, 1) is None
    assert pool.snapshot().idle == 2


def test_unused_ones_are_given_up_but_for_the_minimum() -> None:
    """After `idle_ns`, oldest first; the last ones stay for another while."""
    pool: Pool[str, int] = Pool(LIMITS, chance=lambda: 0.0)
    pool = Pool(PoolLimits(size=3, waiting=0, wait_ns=1, idle_ns=50, life_ns=1000, minimum=1))
    slots = [made(pool, name) for name in "abc"]
    for at, slot in enumerate(slots):
        pool.release(slot, at)
    assert pool.due_ns() == 50
    gone, _ = pool.sweep(52)
    assert [slot.retired for slot in gone] == ["a", "b"]
    assert pool.due_ns() == 102
    assert pool.take(101) is slots[2]


def test_expired_one_is_never_handed_out() -> None:
    """Its place is: opening, with the old resource to be closed."""
    pool: Pool[str, int] = Pool(LIMITS)
    slot = made(pool, "a")
    pool.release(slot, 0)
    assert pool.take(50) is slot
    assert (slot.state, slot.take_retired(), slot.take_retired()) == ("opening", "a", None)


def test_old_one_is_retired_on_release() -> None:
    """Past its life it is closed; a waiter gets the place, not the resource."""
    pool: Pool[str, int] = Pool(LIMITS, chance=lambda: 0.0)
    a, b = made(pool, "a"), made(pool, "b")
    ticket = pool.enqueue(1, 0)
    assert ticket is not None
    assert pool.release(a, 1000) is ticket
    assert (ticket.slot is a, a.state, a.retired) == (True, "opening", "a")
    assert pool.release(b, 1000) is None
    assert (b.state, b.retired) == ("gone", "b")
    assert pool.snapshot().closed.aged == 2


def test_lives_are_spread() -> None:
    """Those opened together do not all end together."""
    draws = iter((0.0, 0.5))
    pool: Pool[str, int] = Pool(
        PoolLimits(size=2, waiting=0, wait_ns=1, idle_ns=9999, life_ns=1000, jitter=0.1),
        chance=lambda: next(draws),
    )
    assert [made(pool, name).dies_ns for name in "ab"] == [1000, 950]


def test_late_waiters_are_named() -> None:
    """A sweep gives those whose time is over, and only those."""
    pool: Pool[str, int] = Pool(LIMITS)
    made(pool, "a"), made(pool, "b")
    first, second = pool.enqueue(1, 0), pool.enqueue(2, 10)
    assert pool.due_ns() == 100
    assert pool.sweep(105) == ([], [first])
    assert pool.due_ns() == 110
    assert pool.sweep(110) == ([], [second])
    assert pool.due_ns() is None


def test_vacated_place_stays_with_its_holder() -> None:
    """A dead resource costs the holder nothing but the opening of another."""
    pool: Pool[str, int] = Pool(LIMITS)
    slot = made(pool, "a")
    made(pool, "b")
    assert pool.enqueue(1, 0) is not None
    pool.vacate(slot, 1)
    pool.opened(slot, "c", 2)
    assert (slot.resource, pool.snapshot().stale, pool.snapshot().waiting) == ("c", 1, 1)


def test_releasing_twice_is_a_mistake() -> None:
    """A slot is given back once."""
    pool: Pool[str, int] = Pool(LIMITS)
    slot = made(pool, "a")
    pool.release(slot, 0)
    with pytest.raises(AssertionError):
        pool.release(slot, 0)
    pool.discard(slot, "lost", 0)
    with pytest.raises(AssertionError):
        pool.discard(slot, "lost", 0)


class PoolMachine(RuleBasedStateMachine):
    """Any order of calls, against a model that is nothing but lists."""

    @initialize(size=st.integers(1, 4), waiting=st.integers(0, 3), minimum=st.integers(0, 2))
    def start(self, size: int, waiting: int, minimum: int) -> None:
        self.now = 0
        self.number = 0
        self.limits = PoolLimits(
            size=size, waiting=waiting, wait_ns=30, idle_ns=40, life_ns=100, minimum=minimum, jitter=0.5
        )
        self.pool: Pool[int, int] = Pool(self.limits, chance=lambda: 0.3)
        self.opening: list[Slot[int]] = []
        self.held: list[Slot[int]] = []
        self.idle: list[Slot[int]] = []
        self.queue: deque[Ticket[int, int]] = deque()
        self.closed: list[int] = []

    def close(self, slot: Slot[int]) -> None:
        retired = slot.take_retired()
        if retired is not None:
            self.closed.append(retired)

    def came(self, slot: Slot[int]) -> None:
        """A slot was given to somebody."""
        self.close(slot)
        if slot.resource is None:
            assert slot.state == "opening"
            self.opening.append(slot)
        else:
            assert slot.state == "held"
            assert slot.resource not in self.closed
            assert self.now < slot.dies_ns
            self.held.append(slot)

    def served(self, ticket: Ticket[int, int] | None) -> None:
        """A ticket came back: it must be the first of the queue."""
        if ticket is None:
            assert not self.queue
            return
        assert ticket is self.queue.popleft()
        slot, ticket.slot = ticket.slot, None
        assert slot is not None
        self.came(slot)

    @rule(by=st.integers(0, 60))
    def time_passes(self, by: int) -> None:
        self.now += by

    @rule()
    def take(self) -> None:
        if self.pool.is_shut:
            return
        slot = self.pool.take(self.now)
        if slot is not None:
            if self.idle:
                assert slot is self.idle.pop()
            self.came(slot)
            return
        assert not self.idle
        assert len(self.opening) + len(self.held) == self.limits.size
        ticket = self.pool.enqueue(0, self.now)
        assert (ticket is None) == (len(self.queue) == self.limits.waiting)
        if ticket is not None:
            self.queue.append(ticket)

    @precondition(lambda self: self.opening)
    @rule(data=st.data(), works=st.booleans())
    def open(self, data: st.DataObject, works: bool) -> None:
        slot = self.opening.pop(data.draw(st.integers(0, len(self.opening) - 1)))
        if works:
            self.number += 1
            self.pool.opened(slot, self.number, self.now)
            self.held.append(slot)
        else:
            self.served(self.pool.discard(slot, "unopened", self.now))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        slot = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        had_waiters = bool(self.queue)
        ticket = self.pool.release(slot, self.now)
        if had_waiters:
            assert ticket is not None
            assert ticket.slot is slot
            self.served(ticket)
        elif slot.state == "idle":
            self.idle.append(slot)
        else:
            assert self.pool.is_shut or self.now >= slot.dies_ns
            self.close(slot)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def vacate(self, data: st.DataObject) -> None:
        slot = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.pool.vacate(slot, self.now)
        self.came(slot)

    @precondition(lambda self: self.held or self.idle)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.held + self.idle))
        (self.held if slot in self.held else self.idle).remove(slot)
        ticket = self.pool.discard(slot, "lost", self.now)
        self.close(slot)
        self.served(ticket)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(list(self.queue)))
        self.queue.remove(ticket)
        assert self.pool.abandon(ticket) is None

    @rule()
    def sweep(self) -> None:
        gone, late = self.pool.sweep(self.now)
        for slot in gone:
            self.idle.remove(slot)
            self.close(slot)
        for ticket in late:
            assert ticket is self.queue.popleft()
            assert ticket.deadline_ns <= self.now
        due = self.pool.due_ns()
        assert due is None or due > self.now

    @rule()
    def warm(self) -> None:
        slot = self.pool.warm(self.now)
        if slot is not None:
            self.came(slot)

    @rule(really=st.sampled_from([False] * 9 + [True]))
    def shut(self, really: bool) -> None:
        if really:
            gone, left = self.pool.shut()
            assert (gone, left) == (self.idle, list(self.queue))
            for slot in gone:
                self.close(slot)
            self.idle.clear()
            self.queue.clear()

    @invariant()
    def everything_is_in_one_place(self) -> None:
        state = self.pool.snapshot()
        assert (state.opening, state.in_use, state.idle) == (
            len(self.opening),
            len(self.held),
            len(self.idle),
        )
        assert state.waiting == len(self.queue) <= self.limits.waiting
        assert state.open + state.opening <= self.limits.size
        assert not (self.queue and self.idle)
        assert not (self.queue and state.open + state.opening < self.limits.size)
        alive = [slot.resource for slot in self.held + self.idle]
        assert sorted(self.closed + [number for number in alive if number is not None]) == list(
            range(1, self.number + 1)
        )


PoolMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestPoolMachine = PoolMachine.TestCase


@pytest.mark.long
@pytest.mark.timeout(900)
def test_pool_machine_at_length() -> None:
    """The full count: 100,000 steps."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        PoolMachine, settings=settings(max_examples=1000, stateful_step_count=100, deadline=None)
    )
