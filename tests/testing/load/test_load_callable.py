"""Callables of this process are driven like servers: same loops, errors by kind, streams chunk by chunk."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from slipstream.testing.load.engine import run
from slipstream.testing.load.plan import SECOND, Plan, TrafficSpec
from slipstream.testing.load.run import RunOptions, RunResult, Tick
from slipstream.testing.load.samples import ERRORS
from slipstream.testing.load.target import CallableTarget


def load(function: object, plan: Plan, **options: float) -> RunResult:
    target = CallableTarget(function=function)  # type: ignore[arg-type]
    return asyncio.run(run(plan, target, options=RunOptions(**options)))  # type: ignore[arg-type]


def kinds(result: RunResult) -> dict[str, int]:
    numbers, counts = np.unique(result.samples.error, return_counts=True)
    return {ERRORS[number]: int(count) for number, count in zip(numbers, counts, strict=True)}


def test_a_callable_is_called_with_each_prompt() -> None:
    """A closed loop calls it so often, with the prompts as they were given."""
    heard: list[str] = []

    async def answer(prompt: str) -> str:
        heard.append(prompt)
        await asyncio.sleep(0.01)
        return "ok"

    spec = TrafficSpec(prompts=('a "b"', "c\n"), salted=False)
    result = load(answer, Plan(users=2, requests=4, duration_seconds=20, traffic=spec))

    assert sorted(heard) == ['a "b"', 'a "b"', "c\n", "c\n"]
    assert kinds(result) == {"": 4}
    assert result.samples.service_ns.min() >= 9e6
    assert set(result.samples.chunks.tolist()) == {1}


def test_a_stream_is_read_chunk_by_chunk() -> None:
    """Pieces of an async iterator give first content, gaps and chunks."""

    async def stream() -> AsyncIterator[str]:
        for piece in "abc":
            await asyncio.sleep(0.01)
            yield piece

    async def answer(prompt: str) -> AsyncIterator[str]:
        return stream()

    samples = load(answer, Plan(users=1, requests=2, duration_seconds=20)).samples

    assert set(samples.chunks.tolist()) == {3}
    assert all(len(samples.gaps_of(row)) == 2 for row in (0, 1))
    assert np.all(samples.first_content_ns < samples.last_content_ns)


def test_what_is_raised_is_an_error_by_kind() -> None:
    """An exception is `exception`, one that takes too long is `timeout`; the run goes on."""

    async def answer(prompt: str) -> str:
        if prompt == "raise":
            raise ValueError
        if prompt == "wait":
            await asyncio.sleep(60)
        return prompt

    spec = TrafficSpec(prompts=("raise", "wait", "good"), salted=False)
    plan = Plan(users=1, requests=3, duration_seconds=20, traffic=spec)

    assert kinds(load(answer, plan, timeout_seconds=0.1)) == {"": 1, "exception": 1, "timeout": 1}


def test_an_open_loop_does_not_wait_for_answers() -> None:
    """Calls are made at the plan's times although none has ended; the grace bounds the wait for them."""

    async def answer(prompt: str) -> None:
        await asyncio.sleep(60)

    result = load(answer, Plan(loop="constant", rate=50, duration_seconds=0.4), grace_seconds=0.1)

    assert kinds(result) == {"cancelled": 20}
    assert result.samples.intended_ns.tolist() == [k * SECOND // 50 for k in range(20)]
    assert np.all(result.samples.sent_ns >= result.samples.intended_ns)
    assert result.stopped == "finished"


def test_a_callable_can_be_stopped_and_watched() -> None:
    """Ticks come while it runs, and a stop ends it with what there is."""
    ticks: list[Tick] = []

    async def answer(prompt: str) -> None:
        await asyncio.sleep(0.01)

    async def main() -> RunResult:
        stop = asyncio.Event()

        def watch(tick: Tick) -> None:
            ticks.append(tick)
            if len(ticks) == 2:
                stop.set()

        target = CallableTarget(function=answer)
        plan = Plan(users=2, duration_seconds=60)
        return await run(plan, target, options=RunOptions(tick_seconds=0.1), watch=watch, stop=stop)

    result = asyncio.run(main())

    assert result.stopped == "requested"
    assert ticks[1].done > ticks[0].done > 0
    assert kinds(result)[""] >= ticks[1].done
