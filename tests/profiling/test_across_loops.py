"""Profilers that are used under one event loop after the other, and under two at once in two threads."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from slipstream.core.errors import BadRequest
from slipstream.profiling import (
    CpuProfile,
    CpuProfiler,
    MemoryProfile,
    MemoryProfiler,
    ResourceProfiler,
    ResponseTimeProfiler,
    UseSnapshot,
)

T = TypeVar("T")


def burn(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(1000))


def in_turn(work: Callable[[int], Awaitable[T]]) -> list[T]:
    """Under two loops, one after the other."""
    return [asyncio.run(_awaited(work, number)) for number in range(2)]


def at_once(work: Callable[[int], Awaitable[T]]) -> list[T]:
    """Under two loops in two threads, which begin together."""
    both = threading.Barrier(2, timeout=20)
    found: dict[int, T] = {}

    def run(number: int) -> None:
        both.wait()
        found[number] = asyncio.run(_awaited(work, number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(2)]


async def _awaited(work: Callable[[int], Awaitable[T]], number: int) -> T:
    return await work(number)


either = pytest.mark.parametrize("under", [in_turn, at_once])
Under = Callable[[Callable[[int], Awaitable[T]]], list[T]]


@either
def test_each_loop_has_its_cpu_profile_with_its_own_tasks(under: "Under[CpuProfile]") -> None:
    """One profiler for both: a window tells of the tasks of the loop that opened it."""
    profiler = CpuProfiler(hertz=500)

    async def slowly(seconds: float) -> None:
        for _ in range(6):
            burn(seconds / 6)
            await asyncio.sleep(0)

    async def work(number: int) -> CpuProfile:
        task = asyncio.create_task(slowly(0.6), name=f"req_{number}")
        found = await profiler.aprofile_cpu(0.4)
        await task
        return found

    for number, found in enumerate(under(work)):
        assert found.tasks()[f"req_{number}"] > 0.02
        assert f"req_{1 - number}" not in found.tasks()
        assert found.functions()[0].name.startswith("burn ")


@either
def test_what_was_sampled_since_the_last_call_spans_loops(under: "Under[CpuProfile]") -> None:
    """The sampler outlives the loop in which it was begun, and knows the tasks of whoever has asked since."""
    profiler = CpuProfiler(hertz=500)

    async def work(number: int) -> CpuProfile:
        current = asyncio.current_task()
        assert current is not None
        current.set_name(f"req_{number}")
        profiler.profile_cpu()
        burn(0.4)
        return profiler.profile_cpu()

    try:
        found = under(work)
    finally:
        profiler.stop()

    assert sum(each.looks for each in found) > 0
    assert {"req_0", "req_1"} <= {tag for each in found for tag in each.tasks()}
    assert any(spot.name.startswith("burn ") for each in found for spot in each.functions())


@either
def test_each_loop_has_its_row_of_resources(under: "Under[UseSnapshot]") -> None:
    """One profiler for both: rates are known, and the lag is that of the loop that was held up."""
    profiler = ResourceProfiler()

    async def work(number: int) -> UseSnapshot:
        watching = asyncio.create_task(profiler.awatch(0.8))
        await asyncio.sleep(0.2)
        if number:
            time.sleep(0.5)
        return await watching

    well, held = under(work)

    assert well["cpu"].utilisation is not None
    assert held["cpu"].utilisation is not None
    assert (held["event loop"].saturation or 0) > 300
    assert (well["event loop"].saturation or 0) < (held["event loop"].saturation or 0)


@either
def test_calls_of_each_loop_are_timed_apart(under: "Under[int]") -> None:
    """One profiler for both: no call takes a step of the other loop's."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    async def answer(name: str) -> None:
        with profiler.step(name):
            await asyncio.sleep(0.001)

    async def work(number: int) -> int:
        await asyncio.gather(*(answer(f"step {number}") for _ in range(50)))
        return number

    under(work)
    found = profiler.get_profile_data()

    assert {name: each.count for name, each in found.step_timings.items()} == {"step 0": 50, "step 1": 50}
    assert all(len(each.root.children) == 1 for each in found.slowest)


def test_windows_of_two_loops_follow_each_other() -> None:
    """Nothing of the first loop stays in the profiler."""
    profiler = MemoryProfiler()

    async def work(number: int) -> MemoryProfile:
        return await profiler.aprofile_memory(0.1, by="tracemalloc")

    assert [each.by for each in in_turn(work)] == ["tracemalloc", "tracemalloc"]


def test_a_window_beside_that_of_another_loop_is_refused_in_words() -> None:
    """One window at a time in a process: one has it, the other is told to wait, and may afterwards."""
    profiler = MemoryProfiler()

    async def work(number: int) -> str:
        try:
            return (await profiler.aprofile_memory(0.6, by="tracemalloc")).by
        except BadRequest as error:
            await asyncio.sleep(1.5)
            return f"{error} Then: {(await profiler.aprofile_memory(0.1, by='tracemalloc')).by}"

    assert sorted(at_once(work)) == [
        "Allocations are being traced already. Wait until that profile is done. Then: tracemalloc",
        "tracemalloc",
    ]
