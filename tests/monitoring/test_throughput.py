"""Throughput: windowed and total rates that are right, and never a division by zero."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as some

from slipstream.core import clock
from slipstream.monitoring.throughput import SLOTS, ThroughputMonitor, WindowedRate

SECOND = 1_000_000_000


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ns = 5 * SECOND

    def __call__(self) -> int:
        return self.now_ns


def test_steady_rate() -> None:
    """Ten events a second are ten a second, in the first second and after an hour."""
    rate = WindowedRate(60 * SECOND)
    rate.begin(0)
    for tenth in range(1, 36_001):
        rate.add(tenth * SECOND // 10)
        if tenth in {10, 600, 36_000}:
            assert rate.rate(tenth * SECOND // 10) == pytest.approx(10, rel=0.02)


def test_nothing_seen_is_none() -> None:
    """Before anything began there is no rate; with no time passed there is none either."""
    rate = WindowedRate(60 * SECOND)
    assert rate.rate(17) is None
    rate.add(100)
    assert rate.rate(100) is None


def test_idle_window_is_zero() -> None:
    """A window in which nothing was done has the rate 0."""
    rate = WindowedRate(60 * SECOND)
    rate.add(0, 1000)
    assert rate.rate(30 * SECOND) == pytest.approx(1000 / 30)
    assert rate.rate(61 * SECOND) == 0.0
    assert rate.rate(100_000 * SECOND) == 0.0


@given(
    steps=some.lists(some.tuples(some.integers(0, 3 * SECOND), some.integers(0, 50)), min_size=1),
    window=some.sampled_from([SECOND, 10 * SECOND, 60 * SECOND]),
)
def test_rate_is_that_of_the_window(steps: list[tuple[int, int]], window: int) -> None:
    """The rate lies between the exact ones of a window and of one that is one part shorter."""
    rate = WindowedRate(window)
    rate.begin(0)
    now, events = 0, []
    for step, count in steps:
        now += step
        rate.add(now, count)
        events.append((now, count))
    seen = rate.rate(now)

    if now == 0:
        assert seen is None
        return
    whole, shorter = (
        sum(count for at, count in events if at > now - each or now < each)
        for each in (window, window - window // SLOTS)
    )
    assert seen is not None
    length = min(now, window) / SECOND
    assert shorter / length * 0.98 <= seen <= max(whole, shorter) / (length * (1 - 2 / SLOTS)) + 1e-9


@given(some.lists(some.integers(0, 10**12), min_size=1))
def test_clock_that_jumps_does_no_harm(moments: list[int]) -> None:
    """Times that run backwards give a rate or None, never an error, never less than 0."""
    rate = WindowedRate(SECOND)
    for moment in moments:
        rate.add(moment)
        seen = rate.rate(moment)
        assert seen is None or seen >= 0


def test_track_counts_done_and_failed() -> None:
    """What is done inside is counted, an error too; it passes through."""
    monitor = ThroughputMonitor()

    async def main() -> None:
        async with monitor.track():
            assert monitor.running == 1
        with pytest.raises(KeyError):
            async with monitor.track():
                raise KeyError
        with monitor.track():
            pass

    asyncio.run(main())

    assert (monitor.total, monitor.failed, monitor.running) == (3, 1, 0)


def test_cancelled_work_is_not_done() -> None:
    """A request that was cancelled is neither done nor failed."""
    monitor = ThroughputMonitor()

    async def endless() -> None:
        async with monitor.track():
            await asyncio.sleep(3600)

    async def main() -> None:
        task = asyncio.create_task(endless())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert monitor.running == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert (monitor.total, monitor.failed, monitor.running) == (0, 0, 0)


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def test_watch_counts_each_request() -> None:
    """Around the loop of a script, asynchronous or not, under two event loops and from a thread."""
    monitor = ThroughputMonitor()
    seen: list[int] = []

    async def main() -> None:
        seen.extend([number async for number in monitor.watch(numbers(5))])
        seen.extend([number async for number in monitor.watch([5, 6])])

    asyncio.run(main())
    asyncio.run(main())
    thread = threading.Thread(target=lambda: seen.extend(monitor.watch(range(3))))
    thread.start()
    thread.join()

    assert seen == [0, 1, 2, 3, 4, 5, 6] * 2 + [0, 1, 2]
    assert (monitor.total, monitor.running) == (17, 0)


def test_watch_refuses_the_wrong_loop() -> None:
    """Asynchronous requests in a plain `for` are told what to write."""
    with pytest.raises(TypeError, match="async for"):
        list(ThroughputMonitor().watch(numbers(1)))


def test_rates_on_a_clock(capsys: pytest.CaptureFixture[str]) -> None:
    """Four requests of half a second each are two a second, printed when asked for."""
    time = Clock()
    with clock.driven_by(time):
        monitor = ThroughputMonitor(window_seconds=10, print_every=2)
        assert monitor.average is None
        for _ in monitor.watch(range(4)):
            time.now_ns += SECOND // 2
        assert monitor.current == pytest.approx(2.0)
        assert monitor.average == pytest.approx(2.0)
        time.now_ns += 100 * SECOND
        assert monitor.current == 0.0
        assert monitor.average == pytest.approx(2.0)

    assert capsys.readouterr().out == "Current throughput: 2.00 req/s\n" * 2
    assert "4 done" in repr(monitor)


@pytest.mark.parametrize("window", [0.0, -1.0, float("nan")])
def test_wrong_window_is_refused(window: float) -> None:
    """A window without length is a mistake that is told at once."""
    with pytest.raises(ValueError, match="window_seconds"):
        ThroughputMonitor(window)
