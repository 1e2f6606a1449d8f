"""Profilers that go on in another process: forked while they were at work, or spawned."""

import multiprocessing
import os
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiling import children
from slipstream.profiling import CpuProfiler, MemoryProfiler, ResourceProfiler, ResponseTimeProfiler
from slipstream.profiling.memory_profile import By
from slipstream.profiling.memory_windows import _TURN


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where windows put their files; it is empty afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_cpu_profile_begins_anew_in_a_forked_child() -> None:
    """The sampler's thread stays with the parent: each process sees its own work and nothing of the other's."""
    profiler = CpuProfiler(hertz=500)
    profiler.profile_cpu()

    def child() -> tuple[int, set[str]]:
        first = profiler.profile_cpu()
        children.burn(0.2)
        return first.looks, {spot.name for spot in profiler.stop().functions()}

    try:
        looks, names = children.forked(child)
        mine = profiler.profile_cpu()
    finally:
        profiler.stop()

    assert looks == 0
    assert any(name.startswith("burn ") for name in names)
    assert not any(name.startswith("burn ") for name in {spot.name for spot in mine.functions()})
    assert mine.looks > 0


def test_a_lock_that_was_held_at_the_fork_holds_nobody_up_in_the_child() -> None:
    """A thread of the parent that was just at work is not there to let it go."""
    cpu, memory, resources = CpuProfiler(), MemoryProfiler(), ResourceProfiler()
    with cpu._lock, memory._lock, resources._lock:
        assert _TURN.take()
        try:
            did = children.forked(
                lambda: [
                    cpu.profile_cpu().looks,
                    cpu.stop().seconds >= 0,
                    memory.profile_memory().rss_bytes > 0,
                    memory.profile_memory(0.05, by="tracemalloc").by,
                    len(resources.snapshot().rows) > 0,
                ]
            )
        finally:
            _TURN.release()

    assert did == [0, True, True, "tracemalloc", True]


@pytest.mark.parametrize("inner", ["memray", "memray-objects", "tracemalloc"])
@pytest.mark.parametrize("outer", ["memray", "memray-objects", "tracemalloc"])
def test_a_child_forked_within_a_window_has_a_window_of_its_own(folders: Path, outer: By, inner: By) -> None:
    """It pays nothing for its parent's, which ends as if there had been no child, and finds what was kept."""
    profiler = MemoryProfiler()
    found: list[object] = []
    is_on, kept = threading.Event(), []

    def window() -> None:
        is_on.set()
        found.append(profiler.profile_memory(1.0, by=outer))

    def child() -> tuple[bool, str, set[Path]]:
        was_tracing = tracemalloc.is_tracing()
        before = set(folders.iterdir())
        told = profiler.profile_memory(0.1, by=inner)
        return was_tracing, told.by, set(folders.iterdir()) - before  # the parent's may end meanwhile

    thread = threading.Thread(target=window)
    thread.start()
    is_on.wait()
    while not (_TURN._window or found):
        threading.Event().wait(0.01)
    kept.append(bytearray(30_000_000))
    try:
        was_tracing, by, left = children.forked(child)
    finally:
        thread.join()

    assert (was_tracing, by, left) == (False, inner, set())
    told = found[0]
    assert told.growth[0].bytes >= 30_000_000
    assert told.growth[0].file == __file__


def test_a_child_that_leaves_in_an_orderly_way_leaves_the_window_alone(folders: Path) -> None:
    """A child that unwinds its stack meets the parent's `finally`, which must not remove the parent's file."""
    profiler = MemoryProfiler()
    looking = profiler._open("memray", 1.0)
    try:

        def child() -> int:
            looking.stop()
            looking.window.end()
            return len(list(folders.iterdir()))

        assert children.forked(child) == 1
        assert len(list(folders.iterdir())) == 1
        looking.stop()
        looking.window.read()
    finally:
        looking.window.end()


def test_resources_in_a_forked_child_are_its_own() -> None:
    """Nothing was looked at yet: the looks of the parent are of another process."""
    profiler = ResourceProfiler()
    profiler.snapshot()

    def child() -> tuple[int, bool, float]:
        looks = profiler.report().looks
        seen = profiler.snapshot()
        return looks, seen["cpu"].utilisation is not None, seen.seconds

    looks, is_known, seconds = children.forked(child)

    assert (looks, is_known) == (0, True)
    assert 0.1 <= seconds < 10
    assert profiler.report().looks == 2


def test_calls_of_a_forked_child_are_counted_in_the_child() -> None:
    """Those alone, also of one that is forked within a step; the parent's own counts stay."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    def call() -> None:
        with profiler.step("search"):
            pass

    def child() -> int:
        for _ in range(3):
            call()
        return profiler.get_profile_data().step_timings["search"].count

    @profiler.profile_response_time
    def forking() -> int:
        with profiler.step("fork"):
            return children.forked(child)

    call()
    assert children.forked(child) == 3
    assert forking() == 3
    timings = profiler.get_profile_data().step_timings

    assert timings["search"].count == 1
    assert timings["fork"].count == 1


def test_a_child_forked_while_others_time_steps_reads_its_profile() -> None:
    """Whichever thread of the parent was working steps in at that moment."""
    profiler, over = ResponseTimeProfiler(), threading.Event()

    def work() -> None:
        while not over.is_set():
            with profiler.step("call"), profiler.step("search"):
                pass

    def read() -> None:
        while not over.is_set():
            profiler.get_profile_data()

    threads = [threading.Thread(target=each) for each in (work, work, read)]
    for each in threads:
        each.start()
    try:
        for _ in range(5):
            assert children.forked(lambda: profiler.get_profile_data().calls) == 0
    finally:
        over.set()
        for each in threads:
            each.join()


def test_a_spawned_child_uses_them_and_sends_what_it_saw() -> None:
    """Profiled functions are found by name there, and every profile travels back as it is."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        sent = [pool.apply_async(call) for call in children.ALL]
        timed, cpu, memory, lines, use = (each.get(children.SECONDS) for each in sent)
        pid = pool.apply_async(children.answer).get(children.SECONDS)
        pool.close()
        pool.join()

    assert pid != os.getpid()
    search = timed.step_timings["search"]
    assert (timed.calls, search.count, search.errors) == (3, 3, 0)
    assert 0 < search.p50 <= search.max * 1.02 <= timed.response_time["answer"].max * 1.02
    assert timed.bottleneck == "search"
    assert timed.bottleneck.share > 0.3
    assert timed.slowest[0].root.children[0].trace is timed.slowest[0]
    assert str(timed).startswith("answer: 3 calls")
    assert cpu.functions()[0].name.startswith("burn (profiling/children.py)")
    assert memory.rss_bytes > 0
    assert lines.growth[0].file == children.__file__
    assert use["cpu"].utilisation is not None
    assert str(use).startswith("resource")
