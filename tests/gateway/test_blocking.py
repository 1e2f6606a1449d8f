"""The guard of the flow, gateway and net tests is on: a call of ours that would block the loop is found."""

import asyncio
from pathlib import Path

import pytest
from blockbuster import BlockingError

from slipstream.config import paths
from slipstream.config.settings import Settings


def test_a_blocking_call_on_a_loop_is_found(tmp_path: Path) -> None:
    """Looking at a file from a coroutine raises, in a thread it does not."""
    settings = Settings(state_folder=str(tmp_path / "none"))

    async def blocks() -> None:
        paths.existing_state_folder(settings)

    async def leaves_it_to_a_thread() -> None:
        assert await asyncio.to_thread(paths.existing_state_folder, settings) is None

    with pytest.raises(BlockingError):
        asyncio.run(blocks())
    asyncio.run(leaves_it_to_a_thread())
