"""The supervisor's desk of profiles: stalls within bounds, one profile at a time, answers by process."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from slipstream.config.profiling import Profiling
from slipstream.config.settings import Recording
from slipstream.core import clock
from slipstream.core.errors import BadRequest, Unavailable
from slipstream.core.meters import Counters
from slipstream.core.use import USE, UseRow
from slipstream.monitoring.use_rows import ResourceRows
from slipstream.profiling.stalls import Place, Stall
from slipstream.server.messages import Profile, Profiled
from slipstream.server.profile_desk import RATE_SECONDS, RATE_SECONDS_MAX, ProcessProfile, ProfileDesk, What
from slipstream.server.recording import Recorder
from slipstream.server.self_profile import BUSY, SelfProfile
from slipstream.store.records import RecordFilter


def desk(
    tmp_path: Path, *, resources: Callable[[], Sequence[UseRow]] = list, **settings: object
) -> ProfileDesk:
    """A desk of a server without workers."""
    recorder = Recorder(tmp_path / "records.db", Recording(enabled=False), Counters())
    return ProfileDesk(Profiling(**settings), (), recorder, resources=lambda: resources)  # type: ignore[arg-type]


def test_stalls_are_kept_within_their_bound(tmp_path: Path) -> None:
    """The newest stay, newest first; how many are gone is told. A request is told from another task."""

    async def main() -> None:
        told = desk(tmp_path, kept=2)
        for at, task in enumerate(("Task-1", "req_1", "req_2")):
            told.stalled("worker 0", Stall(at, 0.5, (Place("/app/x.py", at, "f"),), task, at))
        listed = told.stalls()

        assert [row.request for row in listed.stalls] == ["req_2", "req_1"]
        assert (listed.count, listed.dropped, listed.watched) == (3, 1, True)
        assert listed.stalls[0].where == Place("/app/x.py", 2, "f")
        assert listed.stalls[0].others == 2

    asyncio.run(main())


def test_the_supervisor_looks_at_itself(tmp_path: Path) -> None:
    """Its own CPU profile is there, and is the last one afterwards."""

    async def main() -> None:
        told = desk(tmp_path)
        assert told.last("cpu") is None
        found = await told.profile("cpu", 0.2)

        assert [each.process for each in found.processes] == ["supervisor"]
        assert found.processes[0].cpu is not None
        assert found.processes[0].cpu.looks > 0
        assert told.last("cpu") is found

    asyncio.run(main())


def test_one_profile_at_a_time(tmp_path: Path) -> None:
    """A second one is refused while the first runs; afterwards the next may begin."""

    async def main() -> None:
        told = desk(tmp_path)
        first = asyncio.create_task(told.profile("cpu", 0.3))
        await asyncio.sleep(0.05)
        with pytest.raises(Unavailable, match="runs already") as caught:
            await told.profile("memory", 0.1)
        assert caught.value.status == 409
        await first
        await told.profile("cpu", 0.05)

    asyncio.run(main())


def test_whoever_leaves_frees_the_desk(tmp_path: Path) -> None:
    """The next one may begin at once, and the profile that nobody waited for is not the last one."""

    async def main() -> None:
        told = desk(tmp_path)
        left = asyncio.create_task(told.profile("cpu", 50.0))
        await asyncio.sleep(0.05)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert told.last("cpu") is None
        assert (await told.profile("cpu", 0.05)).processes[0].error == ""

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [0.0, -1.0, 61.0, float("nan"), float("inf")])
def test_a_profile_without_an_end_is_refused(tmp_path: Path, seconds: float) -> None:
    """The bound of the settings holds."""

    async def main() -> None:
        await desk(tmp_path).profile("cpu", seconds)

    with pytest.raises(BadRequest, match="up to 60 seconds"):
        asyncio.run(main())


def test_a_process_looks_at_itself_once_at_a_time() -> None:
    """A second order is answered at once, with why."""

    async def main() -> list[Profiled]:
        told: list[Profiled] = []
        done = asyncio.Event()

        def tell(answer: Profiled) -> bool:
            told.append(answer)
            if len(told) == 2:
                done.set()
            return True

        own = SelfProfile(tell)
        own.begin(Profile(1, "cpu", 0.1, 100, 100))
        own.begin(Profile(2, "memory", 0.1, 100, 100))
        await asyncio.wait_for(done.wait(), 20)
        return told

    refused, looked = asyncio.run(main())

    assert (refused.number, refused.error) == (2, BUSY)
    assert (looked.number, looked.error) == (1, "")
    assert looked.cpu is not None


@pytest.mark.parametrize("what", ["cpu", "memory"])
def test_a_look_that_nobody_wants_ends(what: What) -> None:
    """It gives no answer, and the next one is no second one: it begins when the first has ended."""

    async def main() -> list[Profiled]:
        told: asyncio.Queue[Profiled] = asyncio.Queue()
        own = SelfProfile(lambda answer: told.put_nowait(answer) is None)
        own.begin(Profile(1, what, 50.0, 100, 100, "tracemalloc"))
        await asyncio.sleep(0.2)
        own.end(1)
        own.begin(Profile(2, what, 0.1, 100, 100, "tracemalloc"))
        first = await asyncio.wait_for(told.get(), 20)
        return [first, *(told.get_nowait() for _ in range(told.qsize()))]

    (answer,) = asyncio.run(main())

    assert (answer.number, answer.error) == (2, "")


def test_a_look_that_is_wanted_goes_on() -> None:
    """An older one is not wanted any more; it is over already."""

    async def main() -> Profiled:
        told: asyncio.Queue[Profiled] = asyncio.Queue()
        own = SelfProfile(lambda answer: told.put_nowait(answer) is None)
        own.begin(Profile(2, "cpu", 0.1, 100, 100))
        own.end(1)
        return await asyncio.wait_for(told.get(), 20)

    answer = asyncio.run(main())

    assert (answer.number, answer.error) == (2, "")


def test_the_first_look_at_resources_has_rates(tmp_path: Path) -> None:
    """Nobody has looked before, and still the CPU of the last second is told; the loop turns meanwhile."""
    resources = ResourceRows()

    async def main() -> tuple[UseRow, int]:
        told = desk(tmp_path, resources=resources)
        turns = 0
        asking = asyncio.create_task(told.use())
        while not asking.done():
            turns += 1
            await asyncio.sleep(0.01)
        return (await asking).rows[0], turns

    cpu, turns = asyncio.run(main())
    assert cpu.part == "cpu"
    assert cpu.utilisation is not None
    assert turns > 10


def test_whoever_asks_at_once_is_told_the_same_rates(tmp_path: Path) -> None:
    """Two at a time share a look: rates of the moment between them would be noise."""
    looks: list[int] = []

    def rows() -> list[UseRow]:
        looks.append(clock.monotonic_ns())
        return [UseRow("cpu", len(looks) / 10)]

    async def main() -> list[float | None]:
        told = desk(tmp_path, resources=rows)
        both = await asyncio.gather(told.use(), told.use())
        return [each.rows[0].utilisation for each in both]

    assert asyncio.run(main()) == [0.2, 0.2]
    assert looks[1] - looks[0] >= RATE_SECONDS * 1e9


def test_a_look_of_long_ago_is_no_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates over an idle hour say nothing of now: it is looked twice again. A recent look is measure enough."""
    looks: list[int] = []
    past_ns = 0

    def rows() -> list[UseRow]:
        looks.append(1)
        return [UseRow("cpu", 0.5)]

    async def main() -> list[int]:
        nonlocal past_ns
        monkeypatch.setattr(clock, "monotonic_ns", lambda: time.perf_counter_ns() + past_ns)
        told, counts = desk(tmp_path, resources=rows), []
        for passed in (0.0, RATE_SECONDS_MAX - 1, RATE_SECONDS_MAX + 1):
            past_ns += int(passed * 1e9)
            await told.use()
            counts.append(len(looks))
        return counts

    assert asyncio.run(main()) == [2, 3, 5]


def test_counters_that_may_not_be_read_hide_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of resources says why it is empty, and what to do; the parts tell how they do."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "nothing"))
    USE.announce("part of tests", lambda: UseRow("part of tests", 0.25))
    recorder = Recorder(tmp_path / "records.db", Recording(enabled=False), Counters())
    told = ProfileDesk(Profiling(), (), recorder, resources=ResourceRows)
    try:
        rows = asyncio.run(told.use()).rows
    finally:
        USE.withdraw("part of tests")

    assert rows[0].utilisation is None
    assert "cannot be read" in rows[0].limit
    assert "Let this process read /proc" in rows[0].limit
    assert ("supervisor: part of tests", 0.25) in {(row.part, row.utilisation) for row in rows}


def test_a_process_that_is_refused_a_file_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is what to do; the next profile is as ever."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing"))

    async def main() -> tuple[ProcessProfile, ProcessProfile]:
        told = desk(tmp_path)
        memory = await told.profile("memory", 0.1, by="memray")
        cpu = await told.profile("cpu", 0.1)
        return memory.processes[0], cpu.processes[0]

    memory, cpu = asyncio.run(main())

    assert memory.memory is None
    assert memory.error.startswith("memray cannot begin")
    assert "TMPDIR" in memory.error
    assert (cpu.error, cpu.cpu is not None) == ("", True)


def test_steps_without_records_say_so(tmp_path: Path) -> None:
    """Where recording is off the table is empty and says why."""

    async def main() -> str:
        where = RecordFilter()
        return (await desk(tmp_path).steps(where)).reason

    assert asyncio.run(main()) == "nothing recorded"
