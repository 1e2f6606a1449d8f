"""The USE table: what is in it, over which time, and which rows are strained."""

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.errors import BadRequest
from slipstream.core.use import USE, UseRow
from slipstream.profiling import ResourceProfiler, UseSnapshot
from slipstream.profiling.resources import FIRST_SECONDS, NO_RATES, is_strained, worse

SHARES = st.none() | st.floats(0, 1)
ROWS = st.builds(UseRow, st.just("part"), SHARES, st.none() | st.floats(0, 100), st.just("%"), st.none())


def test_the_table_holds_the_process_and_every_announced_part() -> None:
    """CPU, memory, disk and network come first, then whoever announced itself; it prints as a table."""
    USE.announce("pool of tests", lambda: UseRow("pool of tests", 0.9, 3.0, "waiting", 2, "10 connections"))
    try:
        seen = ResourceProfiler().snapshot()
    finally:
        USE.withdraw("pool of tests")

    assert [row.part for row in seen.rows][:4] == ["cpu", "memory", "disk", "network"]
    assert seen["pool of tests"].errors == 2
    line = next(line for line in str(seen).splitlines() if line.startswith("pool of tests"))
    assert line.split() == ["pool", "of", "tests", "90%", "3", "waiting", "2", "10", "connections", "!"]
    with pytest.raises(KeyError):
        seen["nobody"]


def test_the_first_table_has_rates() -> None:
    """Whoever prints one table and no other sees how much CPU is used."""
    seen = ResourceProfiler().snapshot()

    assert seen["cpu"].utilisation is not None
    assert seen.seconds >= FIRST_SECONDS
    assert NO_RATES not in str(seen)


def test_a_first_table_in_a_coroutine_stops_no_loop_and_says_what_is_missing() -> None:
    """It has no rates and tells how to get them; the next one has."""
    profiler = ResourceProfiler()

    async def main() -> tuple[UseSnapshot, UseSnapshot]:
        first = profiler.snapshot()
        await asyncio.sleep(FIRST_SECONDS)
        return first, profiler.snapshot()

    first, second = asyncio.run(main())
    assert (first.seconds, first["cpu"].utilisation) == (0.0, None)
    assert str(first).endswith(NO_RATES)
    assert second["cpu"].utilisation is not None
    assert NO_RATES not in str(second)


def test_watching_sees_the_cpu_that_is_used_meanwhile() -> None:
    """The rates are of the time that was watched."""
    profiler = ResourceProfiler()

    async def main() -> float:
        watched = threading.Event()
        burning = asyncio.create_task(asyncio.to_thread(burn_until, watched))
        try:
            seen = await profiler.awatch(0.6)
        finally:
            watched.set()
            await burning
        assert seen["event loop"].saturation is not None
        return seen["cpu"].utilisation or 0.0

    assert asyncio.run(main()) > 0.02


def test_a_loop_that_stands_still_is_late_in_its_row() -> None:
    """A blocking call shows as lag of the event loop, in the table and in the report."""
    profiler = ResourceProfiler(list)

    async def main() -> float:
        watching = asyncio.create_task(profiler.awatch(0.8))
        await asyncio.sleep(0.2)
        time.sleep(0.4)
        return (await watching)["event loop"].saturation or 0.0

    assert asyncio.run(main()) > 200
    assert [row.part for row in profiler.report().strained] == ["event loop"]
    assert "Strained: event loop." in str(profiler.report())


def test_a_report_without_a_look_says_so() -> None:
    """Nothing is made up before the first look."""
    profiler = ResourceProfiler(lambda: [UseRow("disk", 0.5)])

    assert str(profiler.report()) == "nothing looked at yet"
    profiler.snapshot()
    assert "Nothing is strained." in str(profiler.report())


def test_watching_never_stops_a_loop() -> None:
    """Within a coroutine the blocking way is refused, and says which one to use."""

    async def main() -> None:
        ResourceProfiler().watch(1)

    with pytest.raises(BadRequest, match="stop the event loop") as caught:
        asyncio.run(main())
    assert "awatch" in caught.value.hint


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 10**9])
def test_a_time_without_an_end_is_refused(seconds: float) -> None:
    """Watching takes more than nothing and at most an hour."""
    with pytest.raises(BadRequest, match="up to 3600 seconds"):
        ResourceProfiler().watch(seconds)


@given(ROWS, ROWS)
def test_the_worse_of_two_is_as_strained_as_either(one: UseRow, other: UseRow) -> None:
    """What strained once is strained in the report, and nothing else is."""
    assert is_strained(worse(one, other)) == (is_strained(one) or is_strained(other))


def burn_until(done: threading.Event) -> None:
    """Not for a fixed time: the watching begins when a crowded machine lets it."""
    while not done.is_set():
        sum(range(1000))
