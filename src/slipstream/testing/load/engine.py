"""Plays a plan against a target and returns what was measured."""

import asyncio
from collections.abc import Callable

from slipstream.testing.load.plan import Plan
from slipstream.testing.load.run import RunOptions, RunResult, Tick
from slipstream.testing.load.target import CallableTarget, Target


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
    raise NotImplementedError
