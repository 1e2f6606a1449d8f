"""What is seen of a run while it runs: looked up in the workers' memory, at no cost to them."""

import asyncio
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slipstream.core import clock
from slipstream.testing.load.columns import Reading
from slipstream.testing.load.plan import SECOND
from slipstream.testing.load.run import Tick
from slipstream.testing.load.samples import ERRORS

WINDOW_ROWS = 200_000
"""How far back ended requests are looked for; one that takes longer than so many others is counted only."""


class Live:
    """Makes ticks.

    Args:
        readings: the workers' memory.
        planned: requests of the whole plan, 0 = not known.
        duration_ns: length of the plan.
    """

    def __init__(self, readings: list[Reading], *, planned: int, duration_ns: int) -> None:
        self._readings = readings
        self._planned = planned
        self._duration_ns = duration_ns
        self._settled = [0] * len(readings)
        self._seen = [np.zeros(0, np.bool_) for _ in readings]
        self._kinds = np.zeros(len(ERRORS), np.int64)
        self._last_ns = 0
        self._sent = self._done = 0

    async def follow(
        self,
        over: "asyncio.Task[None]",
        *,
        watch: Callable[[Tick], None] | None,
        stop: asyncio.Event,
        seconds: float,
        latest_ns: int,
    ) -> None:
        """Make ticks until the run is over, somebody stops it or it should long have ended."""
        start = clock.monotonic_ns()
        stopping = asyncio.create_task(_until(stop))
        try:
            while True:
                await asyncio.wait({over, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                has_ended = over.done() or stop.is_set()  # asked first: the last tick is of all there is
                now = clock.monotonic_ns() - start
                if watch is not None:
                    watch(self.tick(now))
                if has_ended or now > latest_ns:
                    return
        finally:
            stopping.cancel()

    def tick(self, at_ns: int) -> Tick:
        """What happened since the last one."""
        counts = [reading.counts() for reading in self._readings]
        sent, done = sum(each.rows for each in counts), sum(each.done for each in counts)
        rows = np.concatenate([self._fresh(number, each.rows) for number, each in enumerate(counts)])
        self._kinds += np.bincount(rows["error"], minlength=len(ERRORS))
        seconds = max(1e-9, (at_ns - self._last_ns) / SECOND)
        good = rows[rows["error"] == 0]
        tick = Tick(
            at_ns=at_ns,
            planned=self._planned,
            duration_ns=self._duration_ns,
            sent=sent,
            done=done,
            errors=sum(each.errors for each in counts),
            in_flight=max(0, sent - done),
            sent_per_second=(sent - self._sent) / seconds,
            done_per_second=(done - self._done) / seconds,
            response_ms_p50=_percentile(good["done_ns"] - good["intended_ns"], 50),
            response_ms_p99=_percentile(good["done_ns"] - good["intended_ns"], 99),
            ttft_ms_p50=_percentile(good["first_content_ns"] - good["intended_ns"], 50),
            lag_ms_p99=_percentile(rows["lag_ns"], 99),
            error_kinds={
                ERRORS[each]: int(self._kinds[each]) for each in np.flatnonzero(self._kinds) if each
            },
        )
        self._last_ns, self._sent, self._done = at_ns, sent, done
        return tick

    def _fresh(self, number: int, used: int) -> NDArray[np.void]:
        """Rows of a worker that have ended since the last look; all before `_settled` had ended then."""
        start = max(self._settled[number], used - WINDOW_ROWS)
        before = self._seen[number][start - self._settled[number] :]
        rows = self._readings[number].rows(start, used)
        seen = np.zeros(len(rows), np.bool_)
        seen[: len(before)] = before
        ended = rows["done_ns"] >= 0
        settled = len(rows) if ended.all() else int(np.argmin(ended))
        self._settled[number], self._seen[number] = start + settled, ended[settled:]
        fresh: NDArray[np.void] = rows[ended & ~seen]
        return fresh


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


def _percentile(values: NDArray[np.int64], rank: float) -> float:
    """In milliseconds."""
    return float(np.percentile(values, rank)) / 1e6 if len(values) else math.nan
