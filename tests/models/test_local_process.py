"""The embedded model's process: it comes back when it dies, and never outlives its parent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from slipstream.config.settings import Local
from slipstream.core.meters import Counters
from slipstream.models.local_process import (
    BACK_OFF_SECONDS,
    BACK_OFF_SECONDS_MAX,
    LocalAddress,
    LocalProcess,
    back_off,
    threads_for,
)

SETTINGS = Local(slots=1, context_tokens=512, threads=1)
PARENT = """
import asyncio, sys
from pathlib import Path
from slipstream.config.settings import Local
from slipstream.core.meters import Counters
from slipstream.models.local_process import LocalProcess

async def main():
    process = LocalProcess(Local(slots=1, context_tokens=512, threads=1), Path(sys.argv[1]), counters=Counters())
    process.on_change(lambda address: address.state == "ready" and print(process.pid, flush=True))
    await process.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.model
def test_it_tells_every_change_and_ends_with_aclose(data_folder: Path) -> None:
    """off, loading, ready, off; the process is gone and the memory it took is bounded."""
    seen: list[LocalAddress] = []

    async def main() -> int:
        process = LocalProcess(SETTINGS, data_folder, counters=Counters())
        process.on_change(seen.append)
        await process.start()
        try:
            await until(lambda: process.address.state == "ready")
            assert psutil.Process(process.pid).memory_info().rss < 512 * 2**20
            return process.pid
        finally:
            await process.aclose()

    assert is_gone(asyncio.run(main()))
    assert [address.state for address in seen] == ["off", "loading", "ready", "off"]
    assert seen[2].url.startswith("http://127.0.0.1:")
    assert len(seen[2].key) >= 43
    assert seen[2].key not in repr(seen[2])


@pytest.mark.model
def test_killed_it_is_started_again_with_another_key(data_folder: Path) -> None:
    """kill -9: counted, said with its reason, served again at another address with another key."""
    seen: list[LocalAddress] = []

    async def main() -> Counters:
        counters = Counters()
        process = LocalProcess(SETTINGS, data_folder, counters=counters)
        process.on_change(seen.append)
        await process.start()
        try:
            await until(lambda: process.address.state == "ready")
            os.kill(process.pid, signal.SIGKILL)
            await until(lambda: process.address.state != "ready")
            await until(lambda: process.address.state == "ready")
        finally:
            await process.aclose()
        return counters

    assert asyncio.run(main()).snapshot()["local_restarts"] == 1
    first, second = (address for address in seen if address.state == "ready")
    assert first.key != second.key
    assert any("signal 9" in address.detail for address in seen)


@pytest.mark.model
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_to_the_group_do_not_end_it(data_folder: Path, number: signal.Signals) -> None:
    """Ctrl-C and a service manager's SIGTERM reach the whole group; answers must still drain."""

    async def main() -> None:
        process = LocalProcess(SETTINGS, data_folder, counters=Counters())
        await process.start()
        try:
            await until(lambda: process.address.state == "ready")
            before = process.pid
            os.kill(before, number)
            await asyncio.sleep(0.2)
            assert (process.pid, process.address.state) == (before, "ready")
        finally:
            await process.aclose()

    asyncio.run(main())


@pytest.mark.model
def test_a_killed_parent_leaves_no_orphan(data_folder: Path) -> None:
    """kill -9 of the parent ends the child: its lifeline is cut."""
    with subprocess.Popen([sys.executable, "-c", PARENT, str(data_folder)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not is_gone(child)
        parent.kill()
        parent.wait()
    asyncio.run(until(lambda: is_gone(child)))


@pytest.mark.model
def test_a_broken_file_fails_with_the_reason(data_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That it cannot be loaded is in the address, for clients and pages; what llama.cpp says, in the log."""
    data_folder.mkdir()
    broken = data_folder / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(1000))

    async def main() -> LocalAddress:
        process = LocalProcess(Local(path=str(broken)), data_folder, counters=Counters())
        await process.start()
        try:
            await until(lambda: process.address.state == "failed")
            return process.address
        finally:
            await process.aclose()

    address = asyncio.run(main())
    assert "cannot be loaded" in address.detail
    assert "bad GGUF version" not in address.detail
    assert "bad GGUF version" in caplog.text


@pytest.mark.model
def test_a_trial_that_never_became_ready_is_over(data_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One start, no second: whoever tries other settings decides what is next."""

    async def main() -> tuple[LocalAddress, Counters]:
        counters = Counters()
        settings = Local(slots=1, context_tokens=512, threads=1, start_seconds=0.01)
        process = LocalProcess(settings, data_folder, counters=counters, is_trial=True)
        await process.start()
        try:
            await until(lambda: process.address.state == "failed")
            await asyncio.sleep(BACK_OFF_SECONDS_MAX / 60)
            return process.address, counters
        finally:
            await process.aclose()

    address, counters = asyncio.run(main())
    assert address == LocalAddress("failed", detail="it was not ready within 0.01 s")
    assert counters.snapshot()["local_restarts"] == 0
    assert "did not start" in caplog.text


@pytest.mark.model
def test_a_trial_that_was_ready_is_as_any_other_until_it_is_retired(data_folder: Path) -> None:
    """Killed it comes back; retired and killed it does not."""

    async def main() -> Counters:
        counters = Counters()
        process = LocalProcess(SETTINGS, data_folder, counters=counters, is_trial=True)
        await process.start()
        try:
            await until(lambda: process.address.state == "ready")
            first = process.pid
            os.kill(first, signal.SIGKILL)
            await until(lambda: process.address.state == "ready" and process.pid != first)
            process.retire()
            os.kill(process.pid, signal.SIGKILL)
            await until(lambda: process.address.state == "off")
            await asyncio.sleep(2 * BACK_OFF_SECONDS)
            assert process.pid == 0
        finally:
            await process.aclose()
        return counters

    assert asyncio.run(main()).snapshot()["local_restarts"] == 1


def test_a_model_that_is_not_there_fails_and_waits(data_folder: Path) -> None:
    """A missing file is said at once, and looked for again: `slipstream pull` may bring it."""

    async def main() -> LocalProcess:
        process = LocalProcess(Local(path="/nowhere.gguf"), data_folder, counters=Counters())
        await process.start()
        try:
            await until(lambda: process.address.state == "failed")
            assert "/nowhere.gguf" in process.address.detail
        finally:
            await process.aclose()
        return process

    assert asyncio.run(main()).address.state == "off"


def test_the_back_off_doubles_to_its_cap_and_spreads() -> None:
    """Exponential, at most 30 s, the lower half of it by chance."""
    whole = [back_off(deaths, 1.0) for deaths in range(1, 40)]
    assert whole[:3] == [BACK_OFF_SECONDS, 2 * BACK_OFF_SECONDS, 4 * BACK_OFF_SECONDS]
    assert whole == sorted(whole)
    assert whole[-1] == BACK_OFF_SECONDS_MAX
    assert back_off(3, 0.0) == back_off(3, 1.0) / 2


def test_a_core_is_left_to_the_gateway() -> None:
    """Where there are more than two; a small machine uses what it has."""
    assert [threads_for(cores) for cores in (1, 2, 3, 8)] == [1, 2, 2, 7]
