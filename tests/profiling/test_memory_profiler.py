"""The memory profiler names the line that keeps what it allocates, and tells growth from noise."""

import asyncio
import threading
import tracemalloc

import pytest

from slipstream.core.errors import BadRequest
from slipstream.profiling import MemoryProfiler
from slipstream.profiling.memory_profile import Size, trend

MB = 1_000_000


def sizes(*rss: float) -> list[Size]:
    return [Size(at * 1_000_000_000, int(each), 0) for at, each in enumerate(rss)]


def test_a_leak_is_named_by_line() -> None:
    """What a thread keeps allocating while it is watched is the first suspect; tracing ends afterwards."""
    kept: list[bytes] = []
    over = threading.Event()

    def leak() -> None:
        while not over.wait(0.001):
            kept.append(b"x" * 10_000 + bytes(len(kept)))

    leaking = threading.Thread(target=leak)
    leaking.start()
    try:
        profile = MemoryProfiler().profile_memory(seconds=0.5)
    finally:
        over.set()
        leaking.join()

    assert "test_memory_profiler.py" in str(profile.suspects[0])
    assert profile.growth[0].bytes > 500_000
    assert profile.tracing_cost is not None
    assert profile.tracing_cost >= 1
    assert "times slower" in str(profile)
    assert not tracemalloc.is_tracing()


def test_without_a_window_it_only_reads_the_size() -> None:
    """No tracing, no wait; a trend after some calls."""
    profiler = MemoryProfiler()
    first = profiler.profile_memory()
    assert first.rss_bytes > MB
    assert (first.trend, first.growth, first.tracing_cost) == (None, (), None)
    for _ in range(10):
        last = profiler.profile_memory()

    assert last.trend is not None
    assert "RSS" in str(last)
    assert not tracemalloc.is_tracing()


def test_growth_is_told_from_noise() -> None:
    """A steady rise grows; a scatter around a level does not."""
    rising = trend(sizes(*(100 * MB + at * MB + (at % 3) * 1000 for at in range(30))))
    level = trend(sizes(*(100 * MB + (at * 7919 % 13) * MB for at in range(30))))

    assert rising is not None
    assert level is not None
    assert rising.grows
    assert rising.bytes_per_second == pytest.approx(MB, rel=0.01)
    assert not level.grows
    assert trend(sizes(1, 2, 3)) is None


def test_windows_do_not_overlap() -> None:
    """A second one is refused while the first is open; in a coroutine the loop goes on."""
    profiler = MemoryProfiler()

    async def main() -> None:
        first = asyncio.create_task(profiler.aprofile_memory(0.2))
        await asyncio.sleep(0.01)
        with pytest.raises(BadRequest, match="already"):
            await profiler.aprofile_memory(0.1)
        with pytest.raises(BadRequest, match="event loop"):
            profiler.profile_memory(seconds=1)
        assert (await first).rss_bytes > 0

    asyncio.run(main())
    with pytest.raises(BadRequest):
        profiler.profile_memory(seconds=0)
