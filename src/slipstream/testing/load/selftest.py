"""The engine against servers of known latency: how far its percentiles are from the truth on this machine.

A tool that waits for answers before it sends the next request does not see a server that stands still
(coordinated omission). Here it must.
"""

from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
from msgspec import Struct

from slipstream.testing.floor_process import child
from slipstream.testing.load.engine import run
from slipstream.testing.load.known_server import Script
from slipstream.testing.load.plan import SECOND, Plan, arrivals
from slipstream.testing.load.run import RunOptions, RunResult, Tick
from slipstream.testing.load.samples import Longs
from slipstream.testing.load.target import Target
from slipstream.testing.load.truths import errors_at, mean_wait_seconds, of_frozen_server, of_queue

RANKS = (50.0, 75.0, 90.0, 95.0, 99.0)
TOLERANCE = 0.02
"""Largest relative error of a percentile with which the test is passed."""

SERVICE_FROZEN_NS = 50_000_000
RATE_FROZEN = 100.0
FREEZE_SHARE = 0.2
"""Part of the run during which the server stands still."""

SERVICE_QUEUE_NS = 25_000_000
LOAD_QUEUE = 0.7


class Percentile(Struct, frozen=True):
    """One percentile against the truth."""

    rank: float
    truth_ms: float
    measured_ms: float
    error: float
    """Relative."""


class Oracle(Struct, frozen=True):
    """What came of one server of known latency."""

    name: str
    what: str
    """The server and the traffic, in words."""
    requests: int
    failed: int
    percentiles: tuple[Percentile, ...]
    lag_ms_p99: float
    """How late the client itself was."""

    @property
    def worst(self) -> float:
        """The largest relative error."""
        return max(each.error for each in self.percentiles)

    @property
    def passed(self) -> bool:
        """All requests answered, and no percentile further off than `TOLERANCE`."""
        return not self.failed and self.worst <= TOLERANCE


class SelfTestReport(Struct, frozen=True):
    """What the self-test found."""

    oracles: tuple[Oracle, ...]

    @property
    def passed(self) -> bool:
        """Whether all were passed."""
        return all(each.passed for each in self.oracles)

    @property
    def worst(self) -> float:
        """The largest relative error of all."""
        return max(each.worst for each in self.oracles)


async def selftest(
    *,
    seconds: float = 10.0,
    options: RunOptions | None = None,
    watch: Callable[[Tick], None] | None = None,
) -> SelfTestReport:
    """Run the engine against a server that freezes and against a queue; each takes `seconds`.

    Args:
        seconds: of each run; fewer than five leave the percentiles of the queue to chance.
        options: of the engine.
        watch: as `engine.run`'s.
    """
    asked = options or RunOptions()
    frozen = await frozen_server(seconds=seconds, options=asked, watch=watch)
    queue = await known_queue(seconds=seconds, options=asked, watch=watch)
    return SelfTestReport((frozen, queue))


def frozen_script(seconds: float) -> Script:
    """The server that stands still in the middle of a run of so many seconds."""
    between = SECOND / RATE_FROZEN / 2  # half a gap: no request comes at the very edge of the freeze
    return Script(
        service_ns=SERVICE_FROZEN_NS,
        freeze_after_ns=round(seconds * 0.4 * SECOND + between),
        freeze_ns=round(seconds * FREEZE_SHARE * SECOND),
    )


async def frozen_server(
    *, seconds: float, options: RunOptions, watch: Callable[[Tick], None] | None = None
) -> Oracle:
    """Constant arrivals at a server that stands still for a fifth of the time."""
    script = frozen_script(seconds)
    plan = Plan(loop="constant", rate=RATE_FROZEN, duration_seconds=seconds)
    truth = partial(
        of_frozen_server,
        service_ns=script.service_ns,
        freeze_after_ns=script.freeze_after_ns,
        freeze_ns=script.freeze_ns,
    )
    result = await against(script, plan, options=options, watch=watch)
    frozen = script.freeze_ns / 1e9
    what = f"{RATE_FROZEN:g} requests/s, {script.service_ns / 1e6:g} ms each, frozen for {frozen:g} s"
    return judged("frozen server", what, result, truth(arrivals(plan)))


async def known_queue(
    *, seconds: float, options: RunOptions, watch: Callable[[Tick], None] | None = None
) -> Oracle:
    """Poisson arrivals at one server with constant service time: M/D/1, each wait known."""
    service = SERVICE_QUEUE_NS / 1e9
    rate = LOAD_QUEUE / service
    plan = Plan(loop="poisson", rate=rate, duration_seconds=seconds, seed=1)
    result = await against(
        Script(service_ns=SERVICE_QUEUE_NS, is_queue=True), plan, options=options, watch=watch
    )
    mean = (mean_wait_seconds(rate, service) + service) * 1e3
    what = f"M/D/1 at load {LOAD_QUEUE:g}, {service * 1e3:g} ms each, long-run mean {mean:.1f} ms"
    return judged("queue", what, result, of_queue(arrivals(plan), service_ns=SERVICE_QUEUE_NS))


async def against(
    script: Script, plan: Plan, *, options: RunOptions, watch: Callable[[Tick], None] | None = None
) -> RunResult:
    """Play a plan against a known server in a process of its own."""
    told = msgspec.json.encode(script).decode()
    async with child("slipstream.testing.load.known_server", told) as server:
        target = Target(url=f"http://127.0.0.1:{server.port}/", dialect="http", method="GET")
        return await run(plan, target, options=options, watch=watch)


def judged(name: str, what: str, result: RunResult, truth: Longs) -> Oracle:
    """A run's response times against what they should have been."""
    samples = result.samples
    answered = samples.response_ns[samples.ok]
    none = np.full(len(RANKS), np.inf)
    measured = np.percentile(answered, RANKS) / 1e6 if len(answered) else none
    expected = np.percentile(truth, RANKS) / 1e6
    rows = zip(RANKS, expected, measured, errors_at(measured, expected), strict=True)
    return Oracle(
        name=name,
        what=what,
        requests=len(truth),
        failed=len(truth) - len(answered),
        percentiles=tuple(Percentile(*map(float, row)) for row in rows),
        lag_ms_p99=result.meters.lag_p99_ns / 1e6,
    )
