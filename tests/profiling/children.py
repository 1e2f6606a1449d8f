"""What children of a process do with profilers, for tests: forked ones in its image, spawned ones from this file."""

import contextlib
import os
import pickle
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from slipstream.profiling import (
    CpuProfile,
    MemoryProfile,
    ProfileData,
    ResourceProfiler,
    ResponseTimeProfiler,
    UseSnapshot,
    cpu_profiler,
    memory_profiler,
)

T = TypeVar("T")
SECONDS = 30.0
response_times = ResponseTimeProfiler()
resources = ResourceProfiler()
kept: list[bytes] = []


def forked(call: Callable[[], T]) -> T:
    """What `call` returns in a forked child; one that hangs is killed and fails the test."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            said = pickle.dumps((True, call()))
        except BaseException:  # noqa: BLE001 (a child must not go on as the test)
            said = pickle.dumps((False, traceback.format_exc()))
        with contextlib.suppress(OSError), os.fdopen(writing, "wb") as pipe:
            pipe.write(said)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        is_told = bool(select.select([pipe], [], [], SECONDS)[0])
        if not is_told:
            os.kill(pid, signal.SIGKILL)
        said = pipe.read()
    os.waitpid(pid, 0)
    assert is_told, "the child hangs"
    done, told = pickle.loads(said)
    assert done, told
    return told  # type: ignore[no-any-return]


def burn(seconds: float) -> None:
    """Use the CPU, which the profile names."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(1000))


@response_times.profile_response_time
def answer() -> int:
    """A call with a step."""
    with response_times.step("search"):
        time.sleep(0.001)
    return os.getpid()


def timed() -> ProfileData:
    """Three calls."""
    for _ in range(3):
        answer()
    return response_times.get_profile_data()


def cpu() -> CpuProfile:
    """The profile between two calls."""
    cpu_profiler.profile_cpu()
    burn(0.2)
    found = cpu_profiler.profile_cpu()
    cpu_profiler.stop()
    return found


def memory() -> MemoryProfile:
    """The size, by a call that returns at once."""
    return memory_profiler.profile_memory()


def memory_by_line() -> MemoryProfile:
    """A window, with tracemalloc: it is there everywhere."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(0.01):
            kept.append(bytes(100_000))

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        return memory_profiler.profile_memory(0.3, by="tracemalloc")
    finally:
        over.set()
        thread.join()


def use() -> UseSnapshot:
    """The first table."""
    return resources.snapshot()


ALL: tuple[Callable[[], object], ...] = (timed, cpu, memory, memory_by_line, use)
