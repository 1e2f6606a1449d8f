"""Waiting for a thing to come true, by looking; a generous bound stands for "it hangs"."""

import asyncio
import time
from collections.abc import Callable

BOUND_SECONDS = 60.0


async def until(condition: Callable[[], object]) -> None:
    """Return when `condition` holds."""
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def wait_for(condition: Callable[[], object]) -> None:
    """Like `until`, for tests without a loop."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
