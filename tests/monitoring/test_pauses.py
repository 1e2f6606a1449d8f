"""A loop that was blocked and a collection that took time are told of."""

import asyncio
import gc
import time

from slipstream.monitoring.pauses import GcPauses, watch_lag


def test_blocked_loop_is_seen() -> None:
    """A call that blocks the loop shows as lag of about its length."""
    seen: list[int] = []

    async def main() -> None:
        watching = asyncio.create_task(watch_lag(seen.append, 0.001))
        await asyncio.sleep(0.01)
        time.sleep(0.15)
        await asyncio.sleep(0.02)
        watching.cancel()

    asyncio.run(main())

    assert max(seen) >= 100_000_000
    assert min(seen) >= 0


def test_every_collection_is_timed_until_stopped() -> None:
    """From `start` to `stop` each collection is told once, also when started twice."""
    seen: list[int] = []
    pauses = GcPauses(seen.append)
    gc.disable()
    try:
        pauses.start()
        pauses.start()
        gc.collect()
        assert len(seen) == 1
        assert seen[0] > 0
        pauses.stop()
        pauses.stop()
        gc.collect()
        assert len(seen) == 1
    finally:
        gc.enable()
        pauses.stop()
