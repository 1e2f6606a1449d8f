"""The CPU profiler names the line that burns, whatever holds the interpreter, and leaves the idle alone."""

import asyncio
import gc
import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from slipstream.core.errors import BadRequest
from slipstream.profiling import CpuProfile, CpuProfiler, cpu_sampler
from slipstream.profiling.stall_watch import StallWatch


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(100))


def hold(seconds: float) -> None:
    """One call into C that holds the interpreter's lock all the time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(5_000_000))


@pytest.fixture
def profiler() -> Iterator[CpuProfiler]:
    made = CpuProfiler(hertz=200)
    yield made
    made.stop()


def while_looking(profiler: CpuProfiler, work: object) -> CpuProfile:
    assert callable(work)
    profiler.profile_cpu()
    work()
    return profiler.profile_cpu()


def test_the_first_call_begins(profiler: CpuProfiler) -> None:
    """It does not block and says that nothing was sampled yet; the next one has something."""
    assert str(profiler.profile_cpu()) == "nothing sampled yet"
    burn(0.2)
    profile = profiler.profile_cpu()

    assert "burn" in str(profile)
    assert profile.looks > 0


def test_the_burner_is_named(profiler: CpuProfiler) -> None:
    """With its file, and with nearly all of the time."""
    profile = while_looking(profiler, lambda: burn(0.4))

    top = profile.functions()[0]
    assert top.name.startswith("burn (")
    assert "test_cpu_profiler.py" in top.name
    assert top.total_seconds > 0.7 * profile.cpu_seconds
    assert 0.3 < profile.cpu_seconds < 0.8


def test_a_call_that_holds_the_lock_weighs_its_whole_time(profiler: CpuProfiler) -> None:
    """Nobody could look meanwhile: the next look makes up for it."""
    profile = while_looking(profiler, lambda: hold(0.5))

    held = next(spot for spot in profile.functions() if spot.name.startswith("hold"))
    assert held.total_seconds > 0.7 * 0.5


def test_waiting_threads_weigh_nothing(profiler: CpuProfiler) -> None:
    """A thread that sleeps is not where the CPU time goes."""
    over = threading.Event()
    waiter = threading.Thread(target=over.wait)
    waiter.start()
    try:
        profile = while_looking(profiler, lambda: burn(0.3))
    finally:
        over.set()
        waiter.join()

    assert not any("wait" in spot.name and spot.self_seconds > 0.02 for spot in profile.functions())


def test_threads_may_come_and_go(profiler: CpuProfiler) -> None:
    """Thousands of short-lived ones while it looks."""
    profiler.profile_cpu()
    for _ in range(50):
        threads = [threading.Thread(target=burn, args=(0.0002,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    profile = profiler.profile_cpu()

    assert profile.cpu_seconds > 0


def test_samples_name_the_task() -> None:
    """In a coroutine's profile the tasks are told apart."""

    async def task(seconds: float) -> None:
        for _ in range(4):
            burn(seconds / 4)  # long enough that the interpreter's lock changes hands within: 5 ms are not
            await asyncio.sleep(0)

    async def main() -> CpuProfile:
        profiler = CpuProfiler(hertz=500)
        tasks = [
            asyncio.create_task(task(0.48), name="request large"),
            asyncio.create_task(task(0.16), name="request small"),
        ]
        profile = await profiler.aprofile_cpu(0.3)
        await asyncio.gather(*tasks)
        return profile

    tasks = asyncio.run(main()).tasks()

    assert tasks["request large"] > tasks["request small"] > 0


def test_a_window_does_not_stop_a_loop(profiler: CpuProfiler) -> None:
    """The blocking form is refused in a coroutine, with a hint; seconds have bounds."""

    async def main() -> None:
        with pytest.raises(BadRequest, match="event loop") as refusal:
            profiler.profile_cpu(seconds=1)
        assert "aprofile_cpu" in refusal.value.hint

    asyncio.run(main())
    for seconds in (0, -1, 1e9):
        with pytest.raises(BadRequest):
            profiler.profile_cpu(seconds=seconds)
    with pytest.raises(BadRequest):
        CpuProfiler(hertz=0)


def test_exports(profiler: CpuProfiler) -> None:
    """Collapsed stacks and speedscope weigh as much as the profile."""
    profile = while_looking(profiler, lambda: burn(0.2))

    collapsed = sum(int(line.rpartition(" ")[2]) for line in profile.to_collapsed().splitlines())
    scope = json.loads(profile.to_speedscope())
    assert collapsed == pytest.approx(profile.cpu_seconds * 1e6, rel=0.01)
    assert sum(scope["profiles"][0]["weights"]) == pytest.approx(profile.cpu_seconds * 1e9)
    assert any(frame["name"] == "burn" for frame in scope["shared"]["frames"])


def test_it_ends() -> None:
    """`stop` ends the thread and gives what was left; a second one is harmless."""
    profiler = CpuProfiler()
    profiler.profile_cpu()
    burn(0.1)
    assert profiler.stop().cpu_seconds > 0
    assert profiler.stop().looks == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "slipstream-cpu-profiler"]


@pytest.mark.parametrize("bound", ["STACKS_MAX", "CODES_MAX"])
def test_a_program_that_makes_ever_new_code_fills_nothing(
    profiler: CpuProfiler, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Beyond the bound stacks are one, with all of their time."""
    monkeypatch.setattr(cpu_sampler, bound, 40)

    def make_and_burn() -> None:
        for number in range(60):
            made: dict[str, Callable[[Callable[[float], None]], None]] = {}
            exec(f"def f{number}(burn): burn(0.02)", made)
            made[f"f{number}"](burn)

    profile = while_looking(profiler, make_and_burn)

    stacks = [each.stack for each in profile.samples]
    assert len(stacks) <= 41
    assert () in stacks
    assert profile.cpu_seconds > 1.0
    assert str(profile)


@pytest.mark.long
def test_a_garbage_collection_is_the_work_of_the_line_that_it_struck(profiler: CpuProfiler) -> None:
    """Not of whoever is told of its end, which is where the sampler finds the thread right after it."""
    ends: list[str] = []

    def told(phase: str, info: dict[str, int]) -> None:
        ends.append(phase)

    def collect(kept: list[list[int]]) -> None:
        for _ in range(8):
            gc.collect()
        assert kept

    many = [[number] * 10 for number in range(400_000)]
    gc.callbacks.append(told)
    try:
        profile = while_looking(profiler, lambda: collect(many))
    finally:
        gc.callbacks.remove(told)

    top = profile.functions()[0]
    assert "stop" in ends
    assert ".collect (" in top.name
    assert top.self_seconds > 0.7 * profile.cpu_seconds


@pytest.mark.timeout(method="thread")  # the alarm is the watch's
def test_the_alarm_of_the_stall_watch_is_not_what_burns(profiler: CpuProfiler) -> None:
    """Right after a call into C both look, the alarm first: the profile names the line that made the call."""

    async def main() -> CpuProfile:
        watch = StallWatch()
        watch.start()
        await asyncio.sleep(0.2)
        profile = while_looking(profiler, lambda: hold(1.0))
        watch.stop()
        return profile

    profile = asyncio.run(main())

    top = profile.functions()[0]
    assert top.name.startswith("hold (")
    assert top.self_seconds > 0.7 * profile.cpu_seconds


def test_a_program_that_waits_is_hardly_looked_at(profiler: CpuProfiler) -> None:
    """The alarm goes by the CPU time used; the thread beside it wakes five times less often."""
    profile = while_looking(profiler, lambda: time.sleep(0.6))

    assert 0 < profile.looks < 0.6 * 200 / 2


def test_who_burns_while_the_main_thread_is_in_c_is_named(profiler: CpuProfiler) -> None:
    """The main thread cannot look meanwhile: the sampler's own does."""

    def both() -> None:
        burner = threading.Thread(target=burn, args=(0.8,))
        burner.start()
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 3_000_000)  # lets others run, and no handler
        burner.join()

    profile = while_looking(profiler, both)

    burnt = sum(each.total_seconds for each in profile.functions() if each.name.startswith("burn ("))
    hashed = sum(each.self_seconds for each in profile.functions() if "both" in each.name)
    assert burnt > 0.5
    assert hashed > 0.2
    assert profile.looks > 5


def test_a_profile_begun_in_another_thread_is_the_same() -> None:
    """There is no alarm for it: the thread looks as often as it was told to."""
    made = CpuProfiler(hertz=200)
    with ThreadPoolExecutor(1) as pool:
        profile = pool.submit(while_looking, made, lambda: burn(0.4)).result()
        pool.submit(made.stop).result()

    assert profile.functions()[0].name.startswith("burn (")
    assert profile.looks > 20


def test_the_signal_of_somebody_else_is_left_alone(profiler: CpuProfiler) -> None:
    """Whoever has taken `SIGPROF` keeps it, and is named no less."""

    def ours(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGPROF, ours)
    try:
        profile = while_looking(profiler, lambda: burn(0.4))
        profiler.stop()
        assert signal.getsignal(signal.SIGPROF) is ours
    finally:
        signal.signal(signal.SIGPROF, before)

    assert profile.functions()[0].name.startswith("burn (")


def test_two_at_once_see_the_same(profiler: CpuProfiler) -> None:
    """One has the alarm, the other its thread."""
    other = CpuProfiler(hertz=200)
    other.profile_cpu()
    first = while_looking(profiler, lambda: burn(0.4))
    second = other.stop()

    for each in (first, second):
        assert each.functions()[0].name.startswith("burn (")
        assert 0.3 < each.cpu_seconds < 0.8
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "raise SystemExit(0)"])
def test_a_program_may_end_while_it_is_looked_at(end: str) -> None:
    """By default the alarm's signal kills: it is let go of before Python gives it back."""
    program = (
        "import sys, time\nfrom slipstream.profiling import cpu_profiler\n"
        "def burn():\n    end = time.thread_time() + 0.1\n    while time.thread_time() < end: sum(range(100))\n"
        f"cpu_profiler.profile_cpu()\nburn()\n{end}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
