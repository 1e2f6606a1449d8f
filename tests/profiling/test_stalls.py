"""Stall blame names the line, the task and the time, also of a call that holds the interpreter's lock."""

import asyncio
import time

import pytest

from slipstream.core.errors import ConfigurationError
from slipstream.profiling.stalls import Place, Stall, StallWatch, stack_of


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
    watch = StallWatch(victims=lambda: victims)
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


def test_one_watch_a_process() -> None:
    """A second one is refused while the first runs, and may begin after it."""

    async def main() -> None:
        first, second = StallWatch(), StallWatch()
        first.start()
        with pytest.raises(ConfigurationError, match="One event loop"):
            second.start()
        first.stop()
        second.start()
        second.stop()

    asyncio.run(main())


def test_a_dump_is_read_by_thread() -> None:
    """The thread that is asked for, innermost frame first; whatever else stands there is left out."""
    dump = """Timeout (0:00:00.200000)!
Thread 0x00000000000000ff (most recent call first):
  File "/a/other.py", line 1 in other

Thread 0x0000000000000010 (most recent call first):
  File "/a/b c.py", line 12 in inner
  File "/a/d.py", line 3 in <module>
  ...
"""
    assert stack_of(dump, 0x10) == (Place("/a/b c.py", 12, "inner"), Place("/a/d.py", 3, "<module>"))
    assert stack_of("", 0x10) == ()
    assert Stall(0, 1.0, (), "", None).culprit is None
