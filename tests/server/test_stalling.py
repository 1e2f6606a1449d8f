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


def test_a_look_that_fails_is_counted() -> None:
    """The stall is told without its line, nothing comes up in what ran, and the metrics say how many failed."""
    told: list[Stall] = []
    slab, is_standing = private_slab(), False

    def others(request: str) -> int:
        if is_standing:
            raise LookupError(request)
        return 1

    async def main() -> None:
        nonlocal is_standing
        stalls = ProcessStalls(Profiling(), "worker 0", Meter(slab), tell=told.append, others=others)
        stalls.start()
        await asyncio.sleep(0.15)
        is_standing = True
        time.sleep(0.5)
        is_standing = False
        await asyncio.sleep(0.25)
        stalls.stop()

    asyncio.run(main())
    assert max(each.seconds for each in told) > 0.3
    assert counted(slab, "stall_looks_failed") > 0


def test_a_long_collection_is_told_with_where_it_struck() -> None:
    """A collection longer than the setting names the line that it held up, on the loop's own thread."""
    kept = [[number] for number in range(400_000)]
    told, _ = watched(Profiling(gc_ms=1), gc.collect)
    del kept
    pauses = [each for each in told if each.kind == "gc"]

    assert pauses
    assert pauses[0].culprit is not None
    assert pauses[0].culprit.file == __file__


def test_a_collection_delays_others_and_not_the_request_that_it_struck() -> None:
    """Whoever was struck is named and is no other; those who came meanwhile are counted when the loop turns."""
    kept = [[number] for number in range(400_000)]
    under_way = {"req_struck", "req_before"}
    told: list[Stall] = []

    def others(request: str) -> int:
        return len(under_way - {request})

    async def main() -> None:
        stalls = ProcessStalls(
            Profiling(gc_ms=1, stall_ms=60_000), "worker 0", Meter(private_slab()),
            tell=told.append, others=others,
        )  # fmt: skip
        stalls.start()
        asyncio.get_running_loop().call_soon(under_way.update, {"req_meanwhile", "req_too"})
        gc.collect()
        await asyncio.sleep(0.05)
        stalls.stop()

    async def struck() -> None:
        await asyncio.create_task(main(), name="req_struck")

    asyncio.run(struck())
    del kept
    assert told[0].kind == "gc"
    assert (told[0].task, told[0].victims) == ("req_struck", 3)


def test_switched_off_nothing_is_watched() -> None:
    """Neither loop nor collector."""
    told, slab = watched(Profiling(stalls=False, gc_ms=1), lambda: time.sleep(0.4))

    assert told == []
    assert counted(slab, "loop_stalls") == 0
