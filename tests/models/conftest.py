"""One embedded model for the tests that only ask it something, running in a loop of its own."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.config.settings import Local
from slipstream.core.meters import Counters
from slipstream.models.local_process import LocalProcess

# One thread: two on busy cores wait for each other, ten times slower (decoding 4 instead of 40 tokens/s).
SETTINGS = Local(slots=2, context_tokens=1024, output_tokens=900, threads=1)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProcess]:
    """A running model; ask for `embedded.address`."""
    is_over = threading.Event()
    is_ready = threading.Event()
    process = LocalProcess(SETTINGS, tmp_path_factory.mktemp("local"), counters=Counters())
    process.on_change(lambda address: is_ready.set() if address.state == "ready" else None)

    async def live() -> None:
        await process.start()
        try:
            await asyncio.to_thread(is_over.wait)
        finally:
            await process.aclose()

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    try:
        assert is_ready.wait(60)
        yield process
    finally:
        is_over.set()
        thread.join()


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """A data folder of the test's own."""
    return tmp_path / "data"
