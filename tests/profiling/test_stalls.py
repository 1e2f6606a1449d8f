"""Stall blame names the line, the task and the time, also of a call that holds the interpreter's lock."""

import asyncio
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.profiling.stall_watch import StallWatch
from slipstream.profiling.stalls import HOLDERS_MAX, WHOLE, Looks, Place, Stall, gc_stall

pytestmark = pytest.mark.timeout(method="thread")  # the alarm is the watch's


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


@pytest.fixture
def crowd() -> Iterator[None]:
    """Other threads that want the interpreter's lock again and again."""
    over = threading.Event()

    def want_it() -> None:
        while not over.wait(0.01):
            sum(range(1_000))

    threads = [threading.Thread(target=want_it) for _ in range(4)]
    for each in threads:
        each.start()
    yield
    over.set()
    for each in threads:
        each.join()


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("block", [search, power])
def test_what_holds_the_lock_in_c_is_named(block: object) -> None:
    """Nobody can look while it runs; the alarm finds its line right after it, whoever else waits for the lock."""
    assert callable(block)
    worst = max(asyncio.run(stalled(lambda: block(0))), key=lambda stall: stall.seconds)

    assert worst.culprit is not None
    assert worst.culprit.function == block.__name__
    assert worst.task == "req_guilty"


def test_two_in_a_row_are_told_apart() -> None:
    """One turn of the loop runs a short holder and a long one: the long one is blamed, both are told."""

    async def main() -> list[Stall]:
        watch = StallWatch()
        watch.start()
        await asyncio.sleep(0.25)

        async def hold(seconds: float) -> None:
            sleep_on_the_loop(seconds)

        tasks = [
            asyncio.create_task(hold(0.4), name="req_short"),
            asyncio.create_task(hold(1.2), name="req_long"),
        ]
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.3)
        watch.stop()
        return list(watch.stalls)

    worst = max(asyncio.run(main()), key=lambda stall: stall.seconds)

    assert worst.task == "req_long"
    assert 0.5 < worst.share < WHOLE
    assert "req_short" in [each.task for each in worst.also]
    assert re.search(r"for \d\.\d{3} of \d\.\d{3} s in task req_long, .* in task req_short", str(worst))


def test_a_loop_beside_the_main_thread_is_watched_too() -> None:
    """There is no alarm for it: a thread looks."""
    with ThreadPoolExecutor(1) as pool:
        stalls = pool.submit(asyncio.run, stalled(lambda: sleep_on_the_loop(0.6), victims=7)).result()

    worst = max(stalls, key=lambda stall: stall.seconds)
    assert worst.culprit is not None
    assert worst.culprit.function == "sleep_on_the_loop"
    assert (worst.task, worst.victims) == ("req_guilty", 7)


def test_the_alarm_of_somebody_else_is_left_alone() -> None:
    """Whoever takes `SIGALRM`, before or meanwhile, keeps it; the watch goes on by a thread."""
    rung: list[int] = []

    def ours(number: int, frame: object) -> None:
        rung.append(number)

    def take_it_and_sleep() -> None:
        signal.signal(signal.SIGALRM, ours)
        signal.setitimer(signal.ITIMER_REAL, 0.7)

    async def main() -> list[Stall]:
        first = await stalled(take_it_and_sleep)
        assert not [each for each in first if each.seconds > 0.4]
        return await stalled(lambda: sleep_on_the_loop(1.0))

    try:
        worst = max(asyncio.run(main()), key=lambda stall: stall.seconds)
        assert signal.getsignal(signal.SIGALRM) is ours
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    assert rung == [signal.SIGALRM]
    assert worst.culprit is not None
    assert worst.culprit.function == "sleep_on_the_loop"


def test_an_ended_watch_leaves_no_alarm() -> None:
    """The signal is as it was before, and nothing rings any more."""
    asyncio.run(stalled(lambda: None))

    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


LINES = st.tuples(st.sampled_from(["req_a", "req_b", ""]), st.integers(1, 4), st.sampled_from("fg"))


@given(st.lists(st.tuples(LINES, st.floats(0.001, 10))), st.floats(0.1, 100))
def test_blamed_is_who_was_there_longest(
    seen: list[tuple[tuple[str, int, str], float]], seconds: float
) -> None:
    """By task and function; its share and those of the next ones are what was seen of them."""
    looks, by_holder = Looks(), dict[tuple[str, str], float]()
    for (task, line, function), part in seen:
        looks.add(task, (Place("/app/x.py", line, function),), part)
        by_holder[task, function] = by_holder.get((task, function), 0.0) + part
    stall = looks.stall(1, seconds, None)

    if not seen:
        assert (stall.culprit, stall.task, stall.share) == (None, "", 1.0)
        return
    assert stall.culprit is not None
    blamed = by_holder[stall.task, stall.culprit.function]
    assert blamed == pytest.approx(max(by_holder.values()))
    assert stall.share == pytest.approx(blamed / sum(by_holder.values()))
    assert stall.held_seconds <= seconds * (1 + 1e-9)
    for each in stall.also:
        assert each.culprit is not None
        assert each.seconds == pytest.approx(by_holder[each.task, each.culprit.function])


def test_holders_are_bounded_and_their_time_is_not_given_to_others() -> None:
    """A turn of ten thousand callbacks: those that found no room have their time, and nobody is blamed for it."""
    looks = Looks()
    for number in range(10_000):
        looks.add(f"req_{number}", (Place("/app/x.py", 1, "f"),), 0.001)

    stall = looks.stall(1, 10.0, None)
    assert stall.share == pytest.approx(1 / 10_000)
    assert len(looks._seen) == HOLDERS_MAX
    assert len(stall.also) == 3


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
