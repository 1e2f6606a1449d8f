"""`LoadTester`: the guide's load test, from a config to a result. Loads no library before a test runs."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from slipstream.core.errors import SlipstreamError
from slipstream.testing.load.require import require_numpy

if TYPE_CHECKING:
    from slipstream.config.settings import LoadTesting
    from slipstream.testing.load.aim import Aim, Aimable
    from slipstream.testing.load.config import LoadConfig
    from slipstream.testing.load.plan import Lengths, Plan
    from slipstream.testing.load.result import LoadResult
    from slipstream.testing.load.run import RunOptions, Tick

log = logging.getLogger(__name__)

ROWS_MAX = 1_000_000
"""Rows of a trace that are read."""


class LoadTester:
    """Tests how a server, a model or a function does under load.

    Args:
        target: None = the live server of these settings; a base URL such as http://127.0.0.1:8000; the name
            of a model there; a model (`slipstream.model`); an async function that takes a prompt.
        keep: whether results are stored, for `slipstream load list`.

    Safe to build anywhere: nothing is opened before a test runs.
    """

    def __init__(self, target: "Aimable" = None, *, keep: bool = True) -> None:
        self._target = target
        self._keep = keep

    async def run_test(
        self,
        test_config: "Mapping[str, object] | LoadConfig",
        *,
        watch: "Callable[[Tick], None] | None" = None,
        stop: asyncio.Event | None = None,
    ) -> "LoadResult":
        """Run a test and return what was measured.

        Args:
            test_config: `concurrent_users`, `duration`, `ramp_up`, `requests_per_second`, and further keys
                (`LoadConfig`); times in seconds, multiplied by the setting testing.time_scale.
            watch: called about once a second with how it goes.
            stop: set it to end the test now and get what there is.

        Raises `ConfigurationError` for a config that contradicts itself, or where there is nobody to ask.
        What goes wrong with the target stands in the result.
        """
        require_numpy()
        from slipstream.config.load import load
        from slipstream.testing.load.aim import aim
        from slipstream.testing.load.config import read_config, scaled
        from slipstream.testing.load.readiness import until_loaded

        settings = load()
        config = scaled(read_config(test_config), settings.testing)
        aimed = aim(self._target, config, settings)
        await until_loaded(aimed.server, stop)
        result = await play(config, aimed, settings.testing, watch=watch, stop=stop)
        if not self._keep:
            return result
        from slipstream.testing.load.results import store

        try:
            return store(result, settings)
        except (SlipstreamError, OSError) as error:
            log.warning("the result is not stored: %s", error)
            return result

    def run_test_sync(self, test_config: "Mapping[str, object] | LoadConfig") -> "LoadResult":
        """The same for code without an event loop. Raises `RuntimeError` inside a running one."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.run_test(test_config))
        raise RuntimeError("run_test_sync would block the running event loop; use `await run_test(config)`.")

    def __repr__(self) -> str:
        return f"LoadTester({'' if self._target is None else repr(self._target)})"


async def play(
    config: "LoadConfig",
    aimed: "Aim",
    settings: "LoadTesting",
    *,
    watch: "Callable[[Tick], None] | None" = None,
    stop: asyncio.Event | None = None,
    joins: bool = True,
) -> "LoadResult":
    """Play a config whose times are scaled already. Raises as `LoadTester.run_test` does.

    `joins`: whether requests are joined with the records of a server of ours, which takes a moment.
    """
    from slipstream.testing.load import engine
    from slipstream.testing.load.result import LoadResult
    from slipstream.testing.load.steps import step_times
    from slipstream.testing.load.summary import summarize

    options = _options(config, aimed, settings)
    run = await engine.run(_plan(config), aimed.target, options=options, watch=watch, stop=stop)
    summary = await asyncio.to_thread(
        summarize, run, config, target=aimed.shown, time_scale=settings.time_scale
    )
    if joins and aimed.server is not None:
        steps = await step_times(run.samples, aimed.server)
        summary = msgspec.structs.replace(summary, steps=steps)
    return LoadResult(summary, run.samples)


def _lengths(mean: int | None, spread: float) -> "Lengths":
    from slipstream.testing.load.plan import Lengths

    return Lengths(kind="lognormal" if spread else "fixed", mean=mean or 1, spread=spread)


def _plan(config: "LoadConfig") -> "Plan":
    from slipstream.testing.load.plan import Plan, TrafficSpec
    from slipstream.testing.load.traces import read_trace

    if config.trace:
        return Plan(
            loop="trace",
            trace=read_trace(Path(config.trace), rows_max=config.max_requests or ROWS_MAX),
            trace_speed=config.trace_speed,
            users=config.concurrent_users,
            duration_seconds=config.duration,
            warmup_seconds=config.warm_up,
            traffic=TrafficSpec(salted=not config.cached),
            seed=config.seed,
        )
    traffic = TrafficSpec(
        prompts=(config.prompt,) if config.prompt else (),
        bodies=(config.body.encode(),) if config.body else (),
        prompt_tokens=_lengths(config.prompt_tokens, config.prompt_spread),
        output_tokens=_lengths(config.output_tokens, config.output_spread),
        prefix_tokens=config.shared_prefix,
        turns=config.turns,
        salted=not config.cached,
        distinct=config.distinct if config.cached else None,
    )
    return Plan(
        loop="closed" if config.requests_per_second is None else config.arrivals,
        rate=config.requests_per_second or 0.0,
        burstiness=config.burstiness,
        users=config.concurrent_users,
        think_seconds=config.think_time,
        duration_seconds=config.duration,
        requests=config.max_requests,
        ramp_seconds=config.ramp_up,
        warmup_seconds=config.warm_up,
        traffic=traffic,
        seed=config.seed,
    )


def _options(config: "LoadConfig", aimed: "Aim", settings: "LoadTesting") -> "RunOptions":
    from slipstream.testing.load.run import RunOptions

    return RunOptions(
        workers=settings.workers,
        hosts=aimed.hosts,
        timeout_seconds=config.timeout,
        grace_seconds=min(config.timeout, settings.grace_seconds),
        rate_max=settings.rate,
        users_max=settings.users,
        duration_seconds_max=settings.seconds,
        requests_max=settings.requests,
        bytes_max=settings.bytes,
    )
