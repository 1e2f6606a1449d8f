"""The stalls of a server process: counted in its metrics and told on the loop, collections likewise."""

import asyncio
import gc
import time

import pytest

from slipstream.config.profiling import Profiling
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.slab import Slab, private_slab
from slipstream.profiling.stalls import Stall
from slipstream.server.stalling import ProcessStalls


def watched(settings: Profiling, work: object) -> tuple[list[Stall], Slab]:
    """What is told while `work` runs on a watched loop, and the metrics afterwards."""
    assert callable(work)
    told: list[Stall] = []
    slab = private_slab()

    async def main() -> None:
        stalls = ProcessStalls(settings, "worker 0", Meter(slab), tell=told.append, others=lambda request: 3)
        stalls.start()
        await asyncio.sleep(0.15)
        work()
        await asyncio.sleep(0.25)
        stalls.stop()

    asyncio.run(main())
    return told, slab


def counted(slab: Slab, name: str) -> float:
    return float(slab.cells[slab.place(name, "worker 0")])


def test_a_stall_is_told_and_counted() -> None:
    """Line, time and those who waited; the same in the metrics."""
    told, slab = watched(Profiling(), lambda: time.sleep(0.5))
    worst = max(told, key=lambda stall: stall.seconds)

    assert worst.culprit is not None
    assert worst.culprit.file == __file__
    assert worst.victims == 3
    assert counted(slab, "loop_stalls") == len([each for each in told if each.kind == "loop"])
    assert counted(slab, "loop_stalled") == pytest.approx(
        1000 * sum(each.seconds for each in told if each.kind == "loop")
    )


def test_a_long_collection_is_told_with_where_it_struck() -> None:
    """A collection longer than the setting names the line that it held up, on the loop's own thread."""
    kept = [[number] for number in range(400_000)]
    told, _ = watched(Profiling(gc_ms=1), gc.collect)
    del kept
    pauses = [each for each in told if each.kind == "gc"]

    assert pauses
    assert pauses[0].culprit is not None
    assert pauses[0].culprit.file == __file__


def test_switched_off_nothing_is_watched() -> None:
    """Neither loop nor collector."""
    told, slab = watched(Profiling(stalls=False, gc_ms=1), lambda: time.sleep(0.4))

    assert told == []
    assert counted(slab, "loop_stalls") == 0
