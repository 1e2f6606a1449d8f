"""The engine against servers of known latency: how far its percentiles are from the truth on this machine.

A tool that waits for answers before it sends the next request does not see a server that stands still
(coordinated omission). Here it must.
"""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from slipstream.testing.floor_process import child
from slipstream.testing.load.effort import Busy
from slipstream.testing.load.engine import run
from slipstream.testing.load.known_server import WITNESS, Script
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

LATE_MAX_MS = 2.5
"""Timers of an event loop have a grain of 1 ms. Where their p99 is later than this, others had the cores."""
BUSY_MAX = 0.5
"""The self-test itself uses a twentieth of two cores."""
TRIES = 2
"""What others on the machine spoilt is measured once more."""

Verdict = Literal["passed", "failed", "undecided"]

SERVICE_QUEUE_NS = 25_000_000
LOAD_QUEUE = 0.7


class Percentile(Struct, frozen=True):
    """One percentile against the truth."""

    rank: float
    truth_ms: float
    measured_ms: float
    error: float
    """Relative."""


class Machine(Struct, frozen=True):
    """What the machine was like during a run: as fields of `Oracle`."""

    late_ms_p99: float
    busy_share: float | None


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
    late_ms_p99: float = 0.0
    """How late timers of the known server fired: what this machine does to any process."""
    busy_share: float | None = None
    """Of the machine's CPU time, by whomever; None = not known."""

    @property
    def worst(self) -> float:
        """The largest relative error."""
        return max(each.error for each in self.percentiles)

    @property
    def passed(self) -> bool:
        """All requests answered, and no percentile further off than `TOLERANCE`."""
        return not self.failed and self.worst <= TOLERANCE

    @property
    def disturbed(self) -> str:
        """What else this machine did, if it was too much to tell; empty if not."""
        said = []
        if self.late_ms_p99 > LATE_MAX_MS:
            said.append(f"timers fired {self.late_ms_p99:.1f} ms late (p99) in a process of its own")
        if self.busy_share is not None and self.busy_share > BUSY_MAX:
            said.append(f"its CPU was {self.busy_share:.0%} busy, of which this needs a twentieth")
        return " and ".join(said)

    @property
    def verdict(self) -> Verdict:
        """`undecided` where it was not passed on a machine that was too busy for it."""
        if self.passed:
            return "passed"
        return "undecided" if self.disturbed else "failed"


class SelfTestReport(Struct, frozen=True):
    """What the self-test found."""

    oracles: tuple[Oracle, ...]

    @property
    def passed(self) -> bool:
        """Whether all were passed."""
        return all(each.passed for each in self.oracles)

    @property
    def verdict(self) -> Verdict:
        """The worst of all: one that failed on a quiet machine is a failure."""
        found = {each.verdict for each in self.oracles}
        return "failed" if "failed" in found else "undecided" if "undecided" in found else "passed"

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
    found = []
    for measure in (frozen_server, known_queue):
        for _ in range(TRIES):
            oracle = await measure(seconds=seconds, options=asked, watch=watch)
            if oracle.verdict != "undecided":
                break
        found.append(oracle)
    return SelfTestReport(tuple(found))


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
    result, machine = await against(script, plan, options=options, watch=watch)
    frozen = script.freeze_ns / 1e9
    what = f"{RATE_FROZEN:g} requests/s, {script.service_ns / 1e6:g} ms each, frozen for {frozen:g} s"
    return judged("frozen server", what, result, truth(arrivals(plan)), machine)


async def known_queue(
    *, seconds: float, options: RunOptions, watch: Callable[[Tick], None] | None = None
) -> Oracle:
    """Poisson arrivals at one server with constant service time: M/D/1, each wait known."""
    service = SERVICE_QUEUE_NS / 1e9
    rate = LOAD_QUEUE / service
    plan = Plan(loop="poisson", rate=rate, duration_seconds=seconds, seed=1)
    result, machine = await against(
        Script(service_ns=SERVICE_QUEUE_NS, is_queue=True), plan, options=options, watch=watch
    )
    mean = (mean_wait_seconds(rate, service) + service) * 1e3
    what = f"M/D/1 at load {LOAD_QUEUE:g}, {service * 1e3:g} ms each, long-run mean {mean:.1f} ms"
    return judged("queue", what, result, of_queue(arrivals(plan), service_ns=SERVICE_QUEUE_NS), machine)


async def against(
    script: Script, plan: Plan, *, options: RunOptions, watch: Callable[[Tick], None] | None = None
) -> tuple[RunResult, Machine]:
    """Play a plan against a known server in a process of its own; what the machine was like meanwhile."""
    told = msgspec.json.encode(script).decode()
    async with child("slipstream.testing.load.known_server", told) as server:
        target = Target(url=f"http://127.0.0.1:{server.port}/", dialect="http", method="GET")
        busy = Busy()
        result = await run(plan, target, options=options, watch=watch)
        share = busy.share
        late = await _late_ms(server.port)
        return result, Machine(late, None if math.isnan(share) else share)


async def _late_ms(port: int) -> float:
    """How late the known server's timers fired."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET %b HTTP/1.1\r\nhost: known\r\n\r\n" % WITNESS)
    try:
        return float((await reader.read()).rpartition(b"\r\n\r\n")[2])
    finally:
        writer.close()


def judged(name: str, what: str, result: RunResult, truth: Longs, machine: Machine) -> Oracle:
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
        late_ms_p99=machine.late_ms_p99,
        busy_share=machine.busy_share,
    )
