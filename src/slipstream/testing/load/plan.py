"""When requests are sent and what they are made of: decided before a run, from a seed. It sends nothing."""

from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.samples import Longs

Loop = Literal["closed", "constant", "poisson", "gamma", "trace"]
Think = Literal["fixed", "exponential"]
SECOND = 1_000_000_000


Check = tuple[bool, str, str]
"""Whether something is wrong, what it is, what to do."""


class Lengths(Struct, frozen=True, kw_only=True):
    """A distribution of token counts.

    `fixed` is always `mean`; `uniform` from `low` to `high`; `normal` and `lognormal` have `mean` and a
    standard deviation of `spread` tokens. All are kept between `low` and `high`.
    """

    kind: Literal["fixed", "uniform", "normal", "lognormal"] = "fixed"
    mean: float = 64
    spread: float = 0
    low: int = 1
    high: int = 1_000_000

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int32]:
        """So many token counts."""
        if self.kind == "fixed":
            drawn = np.full(count, self.mean)
        elif self.kind == "uniform":
            drawn = generator.integers(self.low, self.high + 1, count).astype(np.float64)
        elif self.kind == "normal":
            drawn = generator.normal(self.mean, self.spread, count)
        else:
            variance = np.log1p((self.spread / self.mean) ** 2)
            drawn = generator.lognormal(np.log(self.mean) - variance / 2, np.sqrt(variance), count)
        counts: NDArray[np.int32] = np.clip(np.rint(drawn), self.low, self.high).astype(np.int32)
        return counts


class Trace(Struct, frozen=True, eq=False):
    """Recorded traffic: when requests came, how long they and their answers were, what they shared."""

    arrivals_ns: Longs
    """Ascending, from 0."""
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    blocks: Longs
    """Ids of prompt blocks, one request's after the other's; equal ids = equal text. May be empty."""
    block_offsets: Longs
    """Where each request's blocks begin in `blocks`; one entry more than requests."""
    block_tokens: int = 512

    def __len__(self) -> int:
        """Requests."""
        return len(self.arrivals_ns)

    def every(self, first: int, step: int, end: int) -> "Trace":
        """Request `first` and every `step`-th after it, up to number `end`."""
        rows = np.arange(first, min(end, len(self)), step)
        counts = np.diff(self.block_offsets)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        shifts = np.repeat(self.block_offsets[rows] - offsets[:-1], counts)
        return Trace(
            arrivals_ns=self.arrivals_ns[rows],
            prompt_tokens=self.prompt_tokens[rows],
            output_tokens=self.output_tokens[rows],
            blocks=self.blocks[shifts + np.arange(int(offsets[-1]))],
            block_offsets=offsets,
            block_tokens=self.block_tokens,
        )


class TrafficSpec(Struct, frozen=True, kw_only=True):
    """What requests say. Without `prompts`, `bodies` or a trace their text is made up."""

    prompts: tuple[str, ...] = ()
    """Texts to send, in turn."""
    bodies: tuple[bytes, ...] = ()
    """Whole request bodies, sent as they are, in turn."""
    prompt_tokens: Lengths = Lengths(mean=64)
    output_tokens: Lengths | None = Lengths(mean=16)
    """Asked for as `max_tokens`; None = the server decides."""
    prefix_tokens: int = 0
    """The first so many tokens are shared by all prompts of a group."""
    prefix_groups: int = 1
    turns: int = 1
    """Turns of a session; each sends all turns before it again. Closed loop only."""
    salted: bool = True
    """Begin each prompt with a number of its own, new in each run, so that no cache can know it."""
    distinct: int | None = None
    """Only so many different prompts, again and again (not salted): what a cache is measured with."""

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        _refuse(_of_traffic(self))


def _of_traffic(spec: "TrafficSpec") -> list[Check]:
    return [
        (
            spec.salted and spec.distinct is not None,
            "A salt makes every prompt differ, so there cannot be a number of distinct ones.",
            "Switch salting off (`--cached`), or leave the number out.",
        ),
        (
            spec.distinct is not None and spec.distinct < 1,
            "There must be at least one prompt.",
            "Give 1 or more.",
        ),
        (spec.prefix_groups < 1, "There must be at least one group of prefixes.", "Give 1 or more."),
        (spec.prefix_tokens < 0, "A prefix cannot have fewer than no tokens.", "Give 0 or more."),
        (spec.turns < 1, "A session has at least one turn.", "Give 1 or more."),
        (bool(spec.prompts and spec.bodies), "Prompts and whole bodies exclude each other.", "Give one."),
    ]


def _refuse(checks: list[Check]) -> None:
    """Raise for the first that holds."""
    for holds, message, hint in checks:
        if holds:
            raise ConfigurationError(message, hint=hint)


class Plan(Struct, frozen=True, kw_only=True, eq=False):
    """A whole run.

    Raises `ConfigurationError` when it contradicts itself.
    """

    loop: Loop = "closed"
    rate: float = 0
    """Requests a second (all loops but `closed` and `trace`)."""
    rate_to: float | None = None
    """The rate goes there in a straight line until the end; None = it stays."""
    burstiness: float = 1.0
    """Of `gamma`: the shape of the gaps; 1 = Poisson, smaller = burstier."""
    users: int | None = None
    """Concurrent users: of a closed loop, all; of an open one, most requests in flight (None = no bound)."""
    think_seconds: float = 0
    """Closed loop: pause of a user after an answer."""
    think_kind: Think = "fixed"
    duration_seconds: float = 10.0
    requests: int | None = None
    """End after so many, if that is earlier."""
    ramp_seconds: float = 0
    """The first part of the duration: the rate, or the number of users, grows from 0."""
    warmup_seconds: float = 0
    """Requests due before this are marked `warmup`."""
    trace: Trace | None = None
    trace_speed: float = 1.0
    """A trace's times are divided by it."""
    traffic: TrafficSpec = TrafficSpec()
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        _refuse([*_of_length(self), *_of_loop(self)])

    @property
    def is_open(self) -> bool:
        """Whether requests are due at times of their own."""
        return self.loop != "closed"


def _of_loop(plan: Plan) -> list[Check]:
    timed = plan.loop in {"constant", "poisson", "gamma"}
    return [
        (timed and not plan.rate > 0, f"A {plan.loop} loop needs a rate above 0.", "Give requests a second."),
        (
            not timed and (plan.rate != 0 or plan.rate_to is not None),
            f"A {plan.loop} loop has no rate: answers, or the trace, decide when requests are sent.",
            "Leave the rate out, or choose `constant` or `poisson`.",
        ),
        (plan.rate_to is not None and plan.rate_to < 0, "A rate cannot fall below 0.", "Give 0 or more."),
        (plan.loop == "closed" and not plan.users, "A closed loop needs users.", "Give at least one."),
        (plan.users is not None and plan.users < 1, "There must be at least one user.", "Give 1 or more."),
        (plan.burstiness <= 0, "Burstiness must be above 0.", "1 is a Poisson process."),
        (plan.think_seconds < 0, "A user cannot think for less than no time.", "Give 0 or more seconds."),
        (
            plan.is_open and plan.think_seconds > 0,
            "Users of an open loop do not think.",
            "Leave it out, or use a closed loop.",
        ),
        (
            plan.is_open and plan.traffic.turns > 1,
            "Sessions of several turns need a closed loop.",
            "Use one turn.",
        ),
        (
            (plan.loop == "trace") != (plan.trace is not None),
            "A trace and the loop `trace` need each other.",
            "Give both or neither.",
        ),
        (plan.trace_speed <= 0, "The speed of a trace must be above 0.", "2 is twice as fast as recorded."),
    ]


def _of_length(plan: Plan) -> list[Check]:
    least = plan.requests is None or plan.requests >= 1
    return [
        (not plan.duration_seconds > 0, "A run needs a duration above 0.", "Give seconds."),
        (not least, "There must be at least one request.", "Give 1 or more."),
        (
            not 0 <= plan.ramp_seconds <= plan.duration_seconds,
            f"The ramp of {plan.ramp_seconds:g} s is not inside the duration of {plan.duration_seconds:g} s.",
            "Make the duration longer or the ramp shorter.",
        ),
        (
            not 0 <= plan.warmup_seconds < plan.duration_seconds,
            f"The warm-up of {plan.warmup_seconds:g} s leaves nothing of {plan.duration_seconds:g} s.",
            "Make the duration longer or the warm-up shorter.",
        ),
    ]


def arrivals(plan: Plan) -> Longs:
    """When each request of an open loop is due: ns since the start, ascending, all below the duration.

    A process of unit rate is put through the inverse of the rate's integral, so that a ramp keeps the
    character of its process. The same plan gives the same times.
    """
    end = round(plan.duration_seconds * SECOND)
    if plan.trace is not None:
        times = (plan.trace.arrivals_ns / plan.trace_speed).astype(np.int64)
    else:
        events = _unit_process(plan)
        times = np.rint(_inverse(plan, events[events < expected_requests(plan)]) * SECOND).astype(np.int64)
    times = times[times < end]
    return times if plan.requests is None else times[: plan.requests]


def expected_requests(plan: Plan) -> float:
    """How many requests the rates of an open loop without a trace come to."""
    ramp, flat = plan.ramp_seconds, plan.duration_seconds - plan.ramp_seconds
    last = plan.rate if plan.rate_to is None else plan.rate_to
    return plan.rate * ramp / 2 + (plan.rate + last) / 2 * flat


def _unit_process(plan: Plan) -> NDArray[np.float64]:
    """Points of a process with one event a unit, beyond the plan's end where chance allows less."""
    mean = expected_requests(plan)
    if plan.loop == "constant":
        return np.arange(int(np.ceil(mean)) + 1, dtype=np.float64)
    shape = plan.burstiness if plan.loop == "gamma" else 1.0
    generator = np.random.default_rng([plan.seed, 1])
    pieces: list[NDArray[np.float64]] = []
    reached = 0.0
    while reached <= mean:
        count = int((mean - reached) * 1.05 + 6 * np.sqrt(mean / shape) + 16)
        piece = reached + np.cumsum(generator.gamma(shape, 1 / shape, count))
        pieces.append(piece)
        reached = float(piece[-1])
    return np.concatenate(pieces)


def _inverse(plan: Plan, events: NDArray[np.float64]) -> NDArray[np.float64]:
    """The times in seconds at which so many events are expected."""
    ramp, first = plan.ramp_seconds, plan.rate
    last = first if plan.rate_to is None else plan.rate_to
    in_ramp = first * ramp / 2
    early = np.sqrt(2 * np.minimum(events, in_ramp) * ramp / first) if ramp else np.zeros_like(events)
    later = np.maximum(events - in_ramp, 0)
    flat = plan.duration_seconds - ramp
    slope = (last - first) / flat if flat > 0 else 0.0
    if slope == 0:
        late = later / first
    else:
        root = np.sqrt(np.maximum(first**2 + 2 * slope * later, 0))  # below 0 only by rounding
        late = 2 * later / (first + root)
    return np.where(events <= in_ramp, early, ramp + late)


class Shard(Struct, frozen=True, eq=False, kw_only=True):
    """One worker's part of a plan: request number i of it is number `first + i * step` of the whole."""

    is_open: bool
    first: int
    step: int
    arrivals_ns: Longs
    """Empty in a closed loop."""
    users: int | None
    requests: int | None
    think_ns: int
    think_kind: Think
    duration_ns: int
    ramp_ns: int
    warmup_ns: int
    traffic: TrafficSpec
    trace: Trace | None
    """This part's requests of the trace."""
    seed: int


def shard(plan: Plan, workers: int) -> list[Shard]:
    """The plan dealt out, so that nothing has to be asked while it is played; perhaps in fewer parts.

    Every n-th arrival goes to one worker: a constant rate stays constant; of a Poisson process each gets a
    gamma process, and all together the Poisson process.
    """
    times = arrivals(plan) if plan.is_open else np.zeros(0, np.int64)
    bounds = [each for each in (plan.users, plan.requests, len(times) if plan.is_open else None) if each]
    workers = max(1, min([workers, *bounds]))
    return [
        Shard(
            is_open=plan.is_open,
            first=number,
            step=workers,
            arrivals_ns=np.ascontiguousarray(times[number::workers]),
            users=_share(plan.users, number, workers),
            requests=_share(plan.requests, number, workers),
            think_ns=round(plan.think_seconds * SECOND),
            think_kind=plan.think_kind,
            duration_ns=round(plan.duration_seconds * SECOND),
            ramp_ns=round(plan.ramp_seconds * SECOND),
            warmup_ns=round(plan.warmup_seconds * SECOND),
            traffic=plan.traffic,
            trace=None if plan.trace is None else plan.trace.every(number, workers, len(times)),
            seed=plan.seed,
        )
        for number in range(workers)
    ]


def _share(total: int | None, number: int, workers: int) -> int | None:
    return None if total is None else total // workers + (number < total % workers)
