"""Many watches on one timer: each rings when it is due, and only then."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from slipstream.flow import virtual
from slipstream.flow.watch import Watch, Watches

MILLISECOND = 0.001
waits = st.lists(st.tuples(st.integers(1, 5_000), st.integers(1, 5_000)), min_size=1, max_size=30)
"""How long something takes, and how long it may take, in ms: one after the other, for one task."""


async def wait_for(watches: Watches, each: list[tuple[int, int]]) -> tuple[float, float] | None:
    """Go through the waits; when the watch rang and when it should have, None if it did not."""
    task = asyncio.current_task()
    assert task is not None
    watch = Watch(watches, task)
    loop = asyncio.get_running_loop()
    try:
        for takes, may_take in each:
            due = loop.time() + may_take * MILLISECOND
            watch.expect(may_take * MILLISECOND)
            try:
                await asyncio.sleep(takes * MILLISECOND)
            except asyncio.CancelledError:
                assert watch.overdue()
                assert not watch.overdue()
                return loop.time(), due
    finally:
        watch.stop()
    return None


@given(st.lists(waits, min_size=1, max_size=8))
def test_each_rings_when_it_is_due_and_only_then(tasks: list[list[tuple[int, int]]]) -> None:
    """Whatever others wait for, a wait that takes too long ends when its time is over; no other one does."""

    async def main() -> list[tuple[float, float] | None]:
        watches = Watches(asyncio.get_running_loop())
        rung = await asyncio.gather(*(wait_for(watches, each) for each in tasks))
        assert not watches.waiting
        return rung

    for each, rung in zip(tasks, virtual.run(main()), strict=True):
        if rung is None:
            assert all(takes <= may_take + 1 for takes, may_take in each)
        else:
            when, due = rung
            assert abs(when - due) <= 2 * MILLISECOND
            assert any(takes >= may_take - 1 for takes, may_take in each)


def test_a_cancellation_by_somebody_else_is_not_ours() -> None:
    """Whoever is cancelled by another stays cancelled, and its watch waits for nothing more."""

    async def main() -> None:
        watches = Watches(asyncio.get_running_loop())
        seen: list[bool] = []

        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            watch = Watch(watches, task)
            watch.expect(0.5)
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                seen.append(watch.overdue())
                raise
            finally:
                watch.stop()

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.25)
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert seen == [False]
        assert not watches.waiting

    virtual.run(main())
