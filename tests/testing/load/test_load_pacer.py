"""The pacer wakes its loop when it was told to, not before, and only for its last order."""

import asyncio
import sys
from collections.abc import Callable

import pytest

from slipstream.core import clock
from slipstream.testing.load.pacer import Pacer

MILLISECOND = 1_000_000


def calls(arm: Callable[[Pacer], None], seconds: float) -> list[int]:
    """When it called back, from the start, while it had so much time."""

    async def main() -> list[int]:
        seen: list[int] = []

        def on_time() -> None:
            seen.append(clock.monotonic_ns() - start)
            pacer.disarm()

        pacer = Pacer(on_time)
        start = clock.monotonic_ns()
        arm(pacer)
        await asyncio.sleep(seconds)
        pacer.close()
        pacer.close()
        return seen

    return asyncio.run(main())


def test_it_calls_once_and_not_before_its_time() -> None:
    """One call for one order, at its time or later."""
    seen = calls(lambda pacer: pacer.arm(clock.monotonic_ns() + 30 * MILLISECOND), 0.3)

    assert len(seen) == 1
    assert seen[0] >= 29 * MILLISECOND


def test_the_last_order_counts() -> None:
    """A later order replaces the one before; a time that is past is now; disarmed it is silent."""

    def earlier(pacer: Pacer) -> None:
        pacer.arm(clock.monotonic_ns() + 10**12)
        pacer.arm(1)

    def silent(pacer: Pacer) -> None:
        pacer.arm(clock.monotonic_ns() + MILLISECOND)
        pacer.disarm()

    assert len(calls(earlier, 0.2)) == 1
    assert calls(silent, 0.1) == []


@pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
def test_it_is_a_kernel_timer_where_there_is_one() -> None:
    """On Linux no event-loop timer is behind it."""

    async def main() -> bool:
        pacer = Pacer(lambda: None)
        try:
            return pacer.is_exact
        finally:
            pacer.close()

    assert asyncio.run(main())
