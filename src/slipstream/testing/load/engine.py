"""Plays a plan against a target and returns what was measured."""

import asyncio
import math
import os
import secrets
from collections.abc import Callable

from slipstream.core import clock
from slipstream.core.errors import ConfigurationError
from slipstream.net.tls import client_context
from slipstream.testing.load import crew
from slipstream.testing.load.callables import run_callable
from slipstream.testing.load.crew import Worker
from slipstream.testing.load.effort import Steal
from slipstream.testing.load.live import Live
from slipstream.testing.load.orders import Orders
from slipstream.testing.load.outcome import collected
from slipstream.testing.load.plan import SECOND, Plan, Shard, expected_requests, shard
from slipstream.testing.load.run import RunOptions, RunResult, Tick
from slipstream.testing.load.target import CallableTarget, Target
from slipstream.testing.load.traffic import SALTS

END_SECONDS = 5.0
"""How long workers may take beyond the grace to report."""


async def run(
    plan: Plan,
    target: Target | CallableTarget,
    *,
    options: RunOptions | None = None,
    watch: Callable[[Tick], None] | None = None,
    stop: asyncio.Event | None = None,
) -> RunResult:
    """Play `plan` against `target`.

    Args:
        plan: when and what.
        target: whom.
        options: limits and how it is played.
        watch: called about once a second, on the running loop.
        stop: set it to end the run now and get what there is (for Ctrl-C); a cancelled task gets nothing.

    Raises `ConfigurationError` for a target that was not named, or a plan beyond the options' limits.
    Failures of the target are no exceptions: they stand in the samples.
    """
    options = options or RunOptions()
    check_caps(plan, options)
    if isinstance(target, CallableTarget):
        return await run_callable(plan, target, options=options, watch=watch, stop=stop)
    target.check_allowed(options.hosts)
    if target.origin.startswith("https"):  # a bad file is told here, once, not by each connection
        await asyncio.to_thread(client_context, target.ca_file or options.ca_file)
    orders = _orders(plan, target, options)
    workers: list[Worker] = []
    try:
        for each in orders:
            worker = await crew.start(each)
            workers.append(worker)  # one by one, so that what did start is ended if another does not
        await asyncio.gather(*(worker.ready() for worker in workers))
        planned = sum(len(each.shard.arrivals_ns) for each in orders) or plan.requests or 0
        return await _play(plan, options, workers, watch=watch, stop=stop or asyncio.Event(), planned=planned)
    finally:
        for worker in workers:
            await worker.close()


def check_caps(plan: Plan, options: RunOptions) -> None:
    """Raise `ConfigurationError` if a plan asks for more than the options allow."""
    expected = expected_requests(plan) if plan.is_open and plan.trace is None else 0
    fastest = max(plan.rate, plan.rate_to or 0)
    for value, most, what, unit in (
        (fastest, options.rate_max, "rate", "requests a second"),
        (plan.users or 0, options.users_max, "number of users", "users"),
        (plan.duration_seconds, options.duration_seconds_max, "duration", "seconds"),
        (min(expected, plan.requests or math.inf), options.requests_max, "number of requests", "requests"),
        (0 if plan.is_open else plan.requests or 0, options.requests_max, "number of requests", "requests"),
    ):
        if value > most:
            raise ConfigurationError(
                f"The {what} of {value:,.0f} is above the cap of {most:,.0f} {unit}.",
                hint="Ask for less, or raise the cap in the settings.",
            )


def spare_workers(options: RunOptions) -> int:
    """How many workers to use: as many as asked for, or one for each core but one."""
    if options.workers:
        return options.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def _orders(plan: Plan, target: Target, options: RunOptions) -> list[Orders]:
    shards = shard(plan, spare_workers(options))
    count = len(shards)
    nonce = secrets.randbelow(SALTS)
    return [
        Orders(
            shard=each,
            target=target,
            options=options,
            rows_fd=-1,
            gaps_fd=-1,
            rows_max=_rows_max(each, options.requests_max // count),
            gaps_max=options.gaps_max // count,
            nonce=nonce,
            ids_max=options.request_ids_max // count,
            bytes_max=options.bytes_max // count,
            core=options.cores[number % len(options.cores)] if options.cores else None,
        )
        for number, each in enumerate(shards)
    ]


def _rows_max(part: Shard, most: int) -> int:
    bounds = [most, part.requests if part.requests is not None else most]
    return max(1, min(*bounds, len(part.arrivals_ns) if part.is_open else most))


async def _play(
    plan: Plan,
    options: RunOptions,
    workers: list[Worker],
    *,
    watch: Callable[[Tick], None] | None,
    stop: asyncio.Event,
    planned: int,
) -> RunResult:
    """Send them off, watch them, hear them out."""
    latest = plan.duration_seconds + options.grace_seconds + END_SECONDS
    live = Live(
        [worker.reading for worker in workers],
        planned=planned,
        duration_ns=round(plan.duration_seconds * SECOND),
    )
    steal = Steal()
    wall, start = clock.wall_ns(), clock.monotonic_ns()
    for worker in workers:
        worker.go()
    heard = asyncio.create_task(_hear(workers))
    try:
        await live.follow(
            heard,
            watch=watch,
            stop=stop,
            seconds=options.tick_seconds,
            latest_ns=round(latest * SECOND),
        )
        if not heard.done():
            await _finish(workers, heard)
        await heard
    finally:
        heard.cancel()
    elapsed = clock.monotonic_ns() - start
    return collected(
        [worker.left for worker in workers], plan, wall_ns=wall, elapsed_ns=elapsed, steal=steal.share
    )


async def _hear(workers: list[Worker]) -> None:
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.hear())


async def _finish(workers: list[Worker], heard: "asyncio.Task[None]") -> None:
    """Tell them to end, and end them if they do not."""
    for worker in workers:
        worker.stop()
    done, _ = await asyncio.wait({heard}, timeout=END_SECONDS)
    if not done:
        for worker in workers:
            worker.kill()
