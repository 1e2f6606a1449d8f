"""Stall blame names the line, the task and the time, also of a call that holds the interpreter's lock."""

import asyncio
import re
import time

import pytest

from slipstream.profiling.stalls import Place, Stall, StallWatch, gc_stall


def sleep_on_the_loop(seconds: float) -> None:
    time.sleep(seconds)


def hold_the_lock(seconds: float) -> None:
    """Calls into C without ever giving the lock away, one after the other."""
    began = time.perf_counter()
    sum(range(20_000_000))
    share = seconds / max(time.perf_counter() - began, 1e-3)
    sum(range(int(20_000_000 * share)))


async def stalled(work: object, *, victims: int = 0) -> list[Stall]:
    assert callable(work)
    watch = StallWatch(victims=lambda task: victims if task == "req_guilty" else 0)
    watch.start()
    try:
        await asyncio.sleep(0.25)

        async def guilty() -> None:
            work()

        await asyncio.create_task(guilty(), name="req_guilty")
        await asyncio.sleep(0.3)
    finally:
        watch.stop()
    return list(watch.stalls)


@pytest.mark.parametrize("block", [sleep_on_the_loop, hold_the_lock])
def test_the_line_and_the_task_are_named(block: object) -> None:
    """While it sleeps with the lock free, and while it holds it in C."""
    assert callable(block)
    stalls = asyncio.run(stalled(lambda: block(0.6), victims=7))

    worst = max(stalls, key=lambda stall: stall.seconds)
    assert worst.culprit is not None
    assert worst.culprit.function == block.__name__
    assert worst.culprit.file == __file__
    assert worst.task == "req_guilty"
    assert worst.victims == 7
    assert worst.seconds > 0.3
    assert "req_guilty" in str(worst)
    assert "7 others" in str(worst)


def test_each_stall_is_told_once_and_counted() -> None:
    """The callback hears each; afterwards the watch goes on."""
    heard: list[Stall] = []

    async def main() -> StallWatch:
        watch = StallWatch(heard.append)
        watch.start()
        for _ in range(2):
            await asyncio.sleep(0.15)
            time.sleep(0.5)
        await asyncio.sleep(0.15)
        watch.stop()
        watch.stop()
        return watch

    watch = asyncio.run(main())

    assert watch.count == len(heard) >= 2
    assert watch.total_seconds == pytest.approx(sum(stall.seconds for stall in heard))


def test_a_watch_may_begin_again() -> None:
    """Starting twice watches once; after its end it may start anew, and others beside it."""

    async def main() -> int:
        first, second = StallWatch(), StallWatch()
        first.start()
        first.start()
        second.start()
        first.stop()
        first.start()
        await asyncio.sleep(0.15)
        time.sleep(0.5)
        await asyncio.sleep(0.25)
        first.stop()
        second.stop()
        assert second.count >= 1
        return first.count

    assert asyncio.run(main()) >= 1


def search(seconds: float) -> None:
    """A regular expression that tries every way, in C."""
    re.match(r"(a+)+$", "a" * 27 + "b")


def power(seconds: float) -> None:
    """An operator, not a call."""
    number = 7**1_600_000
    str(number % 10)


@pytest.mark.parametrize("block", [search, power])
def test_what_holds_the_lock_in_c_is_named(block: object) -> None:
    """Nobody can look while it runs; who looks right after it finds its line still there."""
    assert callable(block)
    worst = max(asyncio.run(stalled(lambda: block(0))), key=lambda stall: stall.seconds)

    assert worst.culprit is not None
    assert worst.culprit.function == block.__name__
    assert worst.task == "req_guilty"


def test_a_loop_that_only_waited_blames_nobody() -> None:
    """Where the loop itself was not given the CPU, no line of the program is named."""
    selector = Place("/lib/python3/selectors.py", 468, "select")
    once = Place("/lib/python3/asyncio/base_events.py", 1884, "_run_once")
    run = Place("/lib/python3/asyncio/runners.py", 118, "run")
    ours = Place("/app/worker.py", 187, "main")
    guilty = Place("/app/stage.py", 5, "burn")

    for starved in (Stall(0, 1.0, (selector, once, run, ours), "", 2), Stall(0, 1.0, (run, ours), "", 2)):
        assert starved.culprit is None
        assert "was not given the CPU" in str(starved)
    assert Stall(0, 1.0, (guilty, run, ours), "", 0).culprit == guilty
    assert Stall(0, 1.0, (guilty, once, run, ours), "", 0).ran == (guilty,)


def test_a_collection_says_where_it_struck() -> None:
    """The line that was running, and the task."""

    async def main() -> Stall:
        return gc_stall(0.05, 3)

    async def named() -> Stall:
        return await asyncio.create_task(main(), name="req_unlucky")

    stall = asyncio.run(named())

    assert stall.culprit is not None
    assert stall.culprit.file == __file__
    assert (stall.task, stall.victims, stall.kind) == ("req_unlucky", 3, "gc")
    assert str(stall).startswith("a garbage collection at ")
