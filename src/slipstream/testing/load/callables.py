"""Plays a plan against an async callable of this process: same loops, same columns, no HTTP."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable

from slipstream.core import clock
from slipstream.testing.load.columns import Reading, Recorder, gaps_size, rows_size, shared_file
from slipstream.testing.load.conductor import Conductor
from slipstream.testing.load.effort import GcPauses, Steal
from slipstream.testing.load.live import Live
from slipstream.testing.load.outcome import Left, collected
from slipstream.testing.load.plan import Plan, Shard, shard
from slipstream.testing.load.run import RunOptions, RunResult, Stopped, Tick
from slipstream.testing.load.samples import ERRORS, NEVER
from slipstream.testing.load.target import CallableTarget
from slipstream.testing.load.traffic import SALTS, Prompts
from slipstream.testing.load.worker_report import report_of

TIMEOUT = ERRORS.index("timeout")
CANCELLED = ERRORS.index("cancelled")
EXCEPTION = ERRORS.index("exception")


class _Call:
    """One call under way, and when what came of it."""

    __slots__ = ("chunks", "first", "gaps", "last", "row", "slot")

    def __init__(self, row: int, slot: int) -> None:
        self.row, self.slot = row, slot
        self.first = self.last = NEVER
        self.chunks = 0
        self.gaps: list[int] = []

    def content(self, at: int) -> None:
        """A piece is there."""
        if self.chunks:
            self.gaps.append(at - self.last)
        else:
            self.first = at
        self.last = at
        self.chunks += 1


class CallableSender(Conductor):
    """Each request is a task that awaits the callable."""

    def __init__(
        self,
        target: CallableTarget,
        shard: Shard,
        options: RunOptions,
        recorder: Recorder,
        over: "asyncio.Future[Stopped]",
    ) -> None:
        super().__init__(shard, options, recorder, over, bytes_max=options.bytes_max)
        self._function = target.function
        self._seconds = options.timeout_seconds
        self._prompts = Prompts(shard, secrets.randbelow(SALTS))
        self._calls: dict[asyncio.Task[None], _Call] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way."""
        return bool(self._calls)

    @property
    def opened(self) -> int:
        """There are no connections."""
        return 0

    def send(self, slot: int, number: int, intended_ns: int, lag_ns: int) -> None:
        """Call it."""
        prompt = self._prompts.spoken(number)
        row = self.recorder.begin(intended_ns, clock.monotonic_ns() - self.start, lag_ns)
        call = _Call(row, slot)
        task = asyncio.get_running_loop().create_task(self._run(call, prompt))
        self._calls[task] = call
        task.add_done_callback(self._on_done)

    async def _run(self, call: _Call, prompt: str) -> None:
        async with asyncio.timeout(self._seconds):
            answer = await self._function(prompt)
            if isinstance(answer, AsyncIterator):
                async with contextlib.AsyncExitStack() as stack:
                    if hasattr(answer, "aclose"):
                        stack.push_async_callback(answer.aclose)
                    async for _ in answer:
                        call.content(clock.monotonic_ns() - self.start)
                return
        call.content(clock.monotonic_ns() - self.start)

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        call = self._calls.pop(task)
        at = clock.monotonic_ns() - self.start
        error = 0
        if task.cancelled():
            error = CANCELLED
        elif (exception := task.exception()) is not None:
            error = TIMEOUT if isinstance(exception, TimeoutError) else EXCEPTION
        self.recorder.finish(
            call.row,
            (call.first, call.first, call.last, at),
            call.gaps,
            (call.chunks, NEVER, NEVER, NEVER, 0),
            (0, error),
        )
        self.released(call.slot, at, is_unreachable=False)

    def look_after(self, now: int) -> None:
        """Nothing: each call has its own time-out."""

    async def drop(self) -> None:
        """Cancel what is under way."""
        calls = tuple(self._calls)
        for task in calls:
            task.cancel()
        if calls:
            await asyncio.wait(calls)
            await asyncio.sleep(0)  # what is done is written down one turn later


async def run_callable(
    plan: Plan,
    target: CallableTarget,
    *,
    options: RunOptions,
    watch: Callable[[Tick], None] | None = None,
    stop: asyncio.Event | None = None,
) -> RunResult:
    """Play `plan` on the running loop; the arguments are `engine.run`'s."""
    part = shard(plan, 1)[0]
    rows = min(options.requests_max, len(part.arrivals_ns) if part.is_open else options.requests_max)
    rows = max(1, min(rows, part.requests or rows))
    sizes = {"rows_max": rows, "gaps_max": options.gaps_max}
    files = shared_file(rows_size(rows)), shared_file(gaps_size(options.gaps_max))
    try:
        recorder, reading = Recorder(*files, **sizes), Reading(*files, **sizes)
    finally:
        for each in files:
            os.close(each)
    over: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
    sender = CallableSender(target, part, options, recorder, over)
    live = Live([reading], planned=sender.loop.planned, duration_ns=part.duration_ns)
    pauses, steal = GcPauses(), Steal()
    wall, start = clock.wall_ns(), clock.monotonic_ns()
    settled = asyncio.create_task(_settled(over))
    try:
        sender.begin()
        await live.follow(
            settled,
            watch=watch,
            stop=stop or asyncio.Event(),
            seconds=options.tick_seconds,
            latest_ns=1 << 62,
        )
        sender.stop("requested")
        ended = clock.monotonic_ns() - start
    finally:
        settled.cancel()
        await sender.close()
        recorder.close()
        pauses.close()
    report = report_of(sender, over.result(), ended_ns=ended, pauses=pauses, ids=[], said=[])
    return collected([Left(reading, report)], plan, wall_ns=wall, elapsed_ns=ended, steal=steal.share)


async def _settled(over: "asyncio.Future[Stopped]") -> None:
    await over
