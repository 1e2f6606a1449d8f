"""Stall blame names the line, the task and the time, also of a call that holds the interpreter's lock."""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.profiling.stall_watch import BEAT_SECONDS, BUSY_BEAT_SECONDS, LOOK_SECONDS, StallWatch
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


async def stalled(work: object, *, victims: int | Callable[[str], int] = 0) -> list[Stall]:
    assert callable(work)
    ask = victims if callable(victims) else lambda task: victims if task == "req_guilty" else 0
    watch = StallWatch(victims=ask)
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


def test_a_look_that_lasts_until_the_next_is_not_to_blame() -> None:
    """As on a busy machine: the alarm rings in the midst of a look, and strikes no line of ours."""

    def victims(task: str) -> int:
        if task == "req_guilty":
            time.sleep(2.4 * LOOK_SECONDS)
        return 0

    stalls = asyncio.run(stalled(lambda: sleep_on_the_loop(0.6), victims=victims))

    worst = max(stalls, key=lambda stall: stall.seconds)
    assert worst.culprit is not None
    assert worst.culprit.function == "sleep_on_the_loop"
    assert not [place for place in worst.stack if place.function in {"_ring", "_look", "victims"}]


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
    re.match(r"(a+)+$", "a" * 25 + "b")


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

        async def shortly() -> None:
            time.sleep(0.4)

        async def long() -> None:
            time.sleep(1.2)

        tasks = [
            asyncio.create_task(shortly(), name="req_short"),
            asyncio.create_task(long(), name="req_long"),
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
    looks, functions, tasks = Looks(), dict[str, float](), dict[tuple[str, str], float]()
    for (task, line, function), part in seen:
        looks.add(task, (Place("/app/x.py", line, function),), part)
        functions[function] = functions.get(function, 0.0) + part
        tasks[function, task] = tasks.get((function, task), 0.0) + part
    stall = looks.stall(1, seconds, None)

    if not seen:
        assert (stall.culprit, stall.task, stall.share) == (None, "", 1.0)
        return
    assert stall.culprit is not None
    blamed = stall.culprit.function
    assert functions[blamed] == pytest.approx(max(functions.values()))
    assert stall.share == pytest.approx(functions[blamed] / sum(functions.values()))
    own = {task: part for (function, task), part in tasks.items() if function == blamed}
    assert own[stall.task] == pytest.approx(max(own.values()))
    assert stall.tasks == len(own)
    assert stall.held_seconds <= seconds * (1 + 1e-9)
    for each in stall.also:
        assert each.culprit is not None
        assert each.seconds == pytest.approx(functions[each.culprit.function])


def test_one_function_in_many_tasks_is_blamed_for_all_of_them() -> None:
    """A turn of ten thousand callbacks: their time is their function's, and as many are told apart as there is room."""
    looks = Looks()
    for number in range(10_000):
        looks.add(f"req_{number}", (Place("/app/x.py", 1, "f"),), 0.001)
    stall = looks.stall(1, 10.0, 0)

    assert stall.share == 1.0
    assert stall.tasks == HOLDERS_MAX
    assert (
        str(stall)
        == f"f (app/x.py:1) held the event loop for 10.000 s in task req_0 and {HOLDERS_MAX - 1} more"
    )


def test_functions_are_bounded_and_their_time_is_not_given_to_others() -> None:
    """Those that found no room have their time, and nobody is blamed for it."""
    looks = Looks()
    for number in range(10_000):
        looks.add("req_1", (Place("/app/x.py", 1, f"f{number}"),), 0.001)
    stall = looks.stall(1, 10.0, None)

    assert stall.share == pytest.approx(1 / 10_000)
    assert len(looks._seen) == HOLDERS_MAX
    assert len(stall.also) == 3


def test_the_length_of_a_stall_is_told() -> None:
    """Whenever in a beat it begins: all of those half again as long as the bound, and within a beat of the truth."""

    async def main() -> list[float]:
        watch = StallWatch()
        watch.start()
        for number in range(12):
            await asyncio.sleep(0.03 + number * 0.0037)
            time.sleep(0.15)
        await asyncio.sleep(0.1)
        watch.stop()
        return [stall.seconds for stall in watch.stalls]

    told = asyncio.run(main())

    assert len(told) >= 12
    assert sorted(told)[len(told) // 2] == pytest.approx(0.15, abs=BUSY_BEAT_SECONDS)


def test_while_nothing_is_under_way_it_wakes_less_often() -> None:
    """The beat is that of an idle server."""

    async def main() -> float:
        watch = StallWatch(victims=lambda task: 0)
        watch.start()
        await asyncio.sleep(0.05)
        seconds = watch._beat_seconds
        watch.stop()
        return seconds

    assert asyncio.run(main()) == BEAT_SECONDS


def test_the_alarm_raises_nothing_into_the_program() -> None:
    """A look that fails is counted, whether too deep a recursion makes it fail or who is asked for the victims."""

    def broken(task: str) -> int:
        if time.monotonic() < until:
            raise ValueError
        return 0

    def down(depth: int, seconds: float) -> None:
        if depth:
            down(depth - 1, seconds)
        else:
            time.sleep(seconds)

    def deep() -> None:
        most = 100
        with contextlib.suppress(RecursionError):
            while True:
                down(most, 0)
                most += 1
        down(most - 4, 0.3)

    until = 0.0

    async def main() -> int:
        nonlocal until
        watch = StallWatch(victims=broken)
        watch.start()
        await asyncio.sleep(0.2)
        deep()
        await asyncio.sleep(0.1)
        until = time.monotonic() + 0.3
        time.sleep(0.4)
        await asyncio.sleep(0.2)
        time.sleep(0.4)
        await asyncio.sleep(0.2)
        watch.stop()
        assert watch.count >= 3
        return watch.missed

    assert asyncio.run(main()) >= 2


def test_an_alarm_while_a_stall_is_judged_changes_nothing() -> None:
    """It finds nothing to look at, and the watch goes on."""

    async def main() -> int:
        watch = StallWatch()
        watch.start()
        judged = watch._looks.stall

        def interrupted(*args: object) -> Stall:
            signal.raise_signal(signal.SIGALRM)
            return judged(*args)  # type: ignore[arg-type]

        watch._looks.stall = interrupted  # type: ignore[method-assign]
        for _ in range(3):
            await asyncio.sleep(0.1)
            time.sleep(0.3)
        await asyncio.sleep(0.1)
        watch.stop()
        assert watch.missed == 0
        return watch.count

    assert asyncio.run(main()) >= 3


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


def test_a_program_may_end_while_it_is_watched() -> None:
    """By default the alarm's signal kills: it is let go of before Python gives it back."""
    program = (
        "import asyncio, atexit, time\nfrom slipstream.profiling.stall_watch import StallWatch\n"
        "async def main():\n    StallWatch().start()\n    await asyncio.sleep(0.05)\n"
        "atexit.register(time.sleep, 0.3)\nasyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
