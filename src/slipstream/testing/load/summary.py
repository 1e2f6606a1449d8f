"""What a run comes to, as plain data: counts, rates, latencies with intervals, the client's own state.

Built once from samples; stored, exported and shown from then on. Times are ms, rates per second.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from slipstream.testing.load.advice import advice
from slipstream.testing.load.config import LoadConfig
from slipstream.testing.load.course import Course, course
from slipstream.testing.load.goodput import Measure, good, measured_ms, objectives
from slipstream.testing.load.honesty import Client, Honesty, client, honesty
from slipstream.testing.load.run import RunResult
from slipstream.testing.load.samples import ERRORS, PHASES, Samples
from slipstream.testing.load.stats import Estimate, mean, percentile, proportion
from slipstream.testing.load.window import Window, measured_window

SHARES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
SHOWN: tuple[Measure, ...] = ("response", "service", "ttft", "ttft_response", "itl", "e2e")

UNANSWERED = "unanswered"
"""Kind of error of requests that had no answer when the grace period after the run was over."""
NOT_KEPT = "(given, not kept)"
"""In the place of a prompt: results hold no message text."""
LITTLE_SAMPLES = 200
LITTLE_OFF = 0.05


class Latency(Struct, frozen=True):
    """How long something took, in ms, of the requests that got a whole answer."""

    mean: Estimate = Estimate()
    percentiles: dict[str, Estimate] = {}
    """By name: p50, p75, p90, p95, p99, p99.9."""
    smallest: float | None = None
    largest: float | None = None

    def get(self, statistic: str) -> Estimate:
        """`mean`, `max` or a percentile by its name."""
        if statistic == "mean":
            return self.mean
        if statistic == "max":
            count = self.mean.samples
            return Estimate(self.largest, samples=count, reliable=count > 0)
        return self.percentiles.get(statistic, Estimate())


class Counts(Struct, frozen=True, kw_only=True):
    """How many requests became what. The figures are of those that were measured."""

    total: int = 0
    """All of the run, warm-up and ramp too."""
    measured: int = 0
    ok: int = 0
    """Measured ones with a whole good answer."""
    errors: int = 0
    kinds: dict[str, int] = {}
    """Errors by kind."""
    unfinished: int = 0
    """Cut by whoever stopped the run; neither good nor errors."""


class Tokens(Struct, frozen=True, kw_only=True):
    """What the server said that it read and wrote, of measured requests with a whole answer."""

    prompt: int | None = None
    output: int | None = None
    cached: int | None = None
    output_per_second: float | None = None
    per_chunk: float | None = None
    """Output tokens of one chunk; 1 where each token is a chunk of its own."""


class Flow(Struct, frozen=True, kw_only=True):
    """How many requests were under way, and whether Little's law holds of what was measured."""

    in_flight_mean: float = 0.0
    in_flight_max: int = 0
    little: float | None = None
    """Requests under way / (rate x mean service time); 1 in a steady state that was measured right."""


class StepTimes(Struct, frozen=True, kw_only=True):
    """Where the time of a sample of requests went, by the server's own records, in ms."""

    joined: int
    """Requests found in the server's records."""
    parts: dict[str, Latency]
    """client_wait, network, gateway, upstream."""
    steps: dict[str, Latency]
    """The server's steps by name."""


class Summary(Struct, frozen=True, kw_only=True):
    """All of it."""

    id: str = ""
    target: str
    config: LoadConfig
    time_scale: float = 1.0
    """What the config's times were multiplied by before; they are shown as they were run."""
    started_wall_ns: int
    duration_seconds: float
    window_seconds: float
    """The part that rates refer to."""
    stopped: str
    message: str = ""
    hint: str = ""
    """What to do about its errors, where there are many."""
    counts: Counts
    throughput: float | None
    goodput: float | None
    """Requests per second that kept every objective."""
    good_share: Estimate
    error_rate: Estimate
    """Shares of measured requests, 0..1."""
    rate_limited_rate: Estimate
    timeout_rate: Estimate
    latencies: dict[str, Latency]
    """By measure: response, service, ttft, ttft_response, itl, gap, e2e."""
    tokens: Tokens
    flow: Flow
    client: Client
    honesty: Honesty
    steps: StepTimes | None = None
    course: Course = field(default_factory=Course)


def latency(values: NDArray[np.float64]) -> Latency:
    """Statistics of times in ms, in order of time; NaN are left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return Latency()
    ordered = np.sort(values)
    return Latency(
        mean(values),
        {name: percentile(ordered, share) for name, share in SHARES.items()},
        float(ordered[0]),
        float(ordered[-1]),
    )


def summarize(run: RunResult, config: LoadConfig, *, target: str, time_scale: float) -> Summary:
    """What a run comes to. `config` is what was played, its times scaled already."""
    window = measured_window(run, config)
    samples = run.samples.select(run.samples.phase == PHASES.index("measured"))
    finished = samples.select(_finished(samples, run.stopped))
    answered = finished.select(finished.ok)
    wanted = objectives(config.slo)
    kept = good(finished, wanted)
    latencies: dict[str, Latency] = {measure: latency(measured_ms(answered, measure)) for measure in SHOWN}
    latencies["gap"] = latency(answered.pooled_gaps_ns() / 1e6)
    throughput = window.rate(run.samples, run.samples.ok) if len(finished) else None
    counts = _counts(run.samples, samples, finished)
    flow = _flow(run.samples, window)
    told = client(run.meters, window)
    return Summary(
        target=target,
        config=_without_texts(config),
        time_scale=time_scale,
        started_wall_ns=run.started_wall_ns,
        duration_seconds=run.duration_ns / 1e9,
        window_seconds=window.seconds,
        stopped=run.stopped,
        message=run.message,
        hint=advice(counts.kinds, run.said, ended=counts.ok + counts.errors),
        counts=counts,
        throughput=throughput,
        goodput=None if throughput is None else window.rate(run.samples, good(run.samples, wanted)),
        good_share=proportion(int(kept.sum()), len(finished)),
        error_rate=proportion(counts.errors, len(finished)),
        rate_limited_rate=_share_of(finished, ("http_429",)),
        timeout_rate=_share_of(finished, ("timeout", "connect_timeout")),
        latencies=latencies,
        tokens=_tokens(answered, window),
        flow=flow,
        client=told,
        honesty=_with_flow(
            honesty(told, latencies["ttft"].get("p50"), latencies["service"].get("p50"), counts_of(counts)),
            flow,
            counts,
        ),
        course=course(run.samples, latencies_ms=measured_ms(answered, "response"), window=window),
    )


def _with_flow(found: Honesty, flow: Flow, counts: Counts) -> Honesty:
    """The verdict with a word on Little's law, which holds of every steady state."""
    if flow.little is None or counts.ok < LITTLE_SAMPLES or abs(flow.little - 1) <= LITTLE_OFF:
        return found
    said = f"Little's law is off by {abs(flow.little - 1):.0%}: this was no steady state"
    return msgspec.structs.replace(found, cautions=(*found.cautions, said))


def _without_texts(config: LoadConfig) -> LoadConfig:
    prompt, body = (NOT_KEPT if each else "" for each in (config.prompt, config.body))
    return msgspec.structs.replace(config, prompt=prompt, body=body)


def counts_of(counts: Counts) -> tuple[int, int]:
    """Requests that ended by themselves, and those of them that never got their answer in time."""
    late = sum(counts.kinds.get(kind, 0) for kind in ("timeout", "connect_timeout", UNANSWERED))
    return counts.ok + counts.errors, late


def _finished(samples: Samples, stopped: str) -> NDArray[np.bool_]:
    """Which requests count: all, but those that were cut because somebody stopped the run.

    At the end of a run that played its plan, what has no answer after the grace period is an error.
    """
    if stopped == "finished":
        return np.ones(len(samples), np.bool_)
    cut: NDArray[np.bool_] = samples.error == ERRORS.index("cancelled")
    return ~cut


def _counts(whole: Samples, measured: Samples, finished: Samples) -> Counts:
    numbers = np.bincount(finished.error, minlength=len(ERRORS))
    return Counts(
        total=len(whole),
        measured=len(measured),
        ok=int(numbers[0]),
        errors=int(numbers[1:].sum()),
        kinds={_kind(ERRORS[index]): int(numbers[index]) for index in np.nonzero(numbers)[0] if index},
        unfinished=len(measured) - len(finished),
    )


def _kind(error: str) -> str:
    return UNANSWERED if error == "cancelled" else error


def _share_of(samples: Samples, kinds: Sequence[str]) -> Estimate:
    wanted = np.isin(samples.error, [ERRORS.index(kind) for kind in kinds])
    return proportion(int(wanted.sum()), len(samples))


def _tokens(answered: Samples, window: Window) -> Tokens:
    known = answered.output_tokens >= 0
    if not known.any():
        return Tokens()
    output = int(answered.output_tokens[known].sum())
    chunks = int(answered.chunks[known].sum())
    inside = known & window.ends_inside(answered)
    return Tokens(
        prompt=_total(answered.prompt_tokens),
        output=output,
        cached=_total(answered.cached_tokens),
        output_per_second=float(answered.output_tokens[inside].sum()) / window.seconds,
        per_chunk=output / chunks if chunks else None,
    )


def _total(tokens: NDArray[np.int32]) -> int | None:
    known = tokens >= 0
    return int(tokens[known].astype(np.int64).sum()) if known.any() else None


def _flow(samples: Samples, window: Window) -> Flow:
    """Requests under way over the window, from their actual starts and ends."""
    sent = samples.sent_ns >= 0
    ends = np.where(samples.done_ns >= 0, samples.done_ns, window.last_ns)[sent]
    starts = samples.sent_ns[sent]
    inside = np.clip(np.minimum(ends, window.end_ns) - np.maximum(starts, window.start_ns), 0, None)
    length = window.end_ns - window.start_ns
    if length <= 0 or not len(starts):
        return Flow()
    under_way = float(inside.sum()) / length
    times = np.concatenate([starts, ends])
    changes = np.concatenate([np.ones(len(starts), np.int64), -np.ones(len(ends), np.int64)])
    highest = int(np.cumsum(changes[np.lexsort((changes, times))]).max(initial=0))
    ending = (ends >= window.start_ns) & (ends < window.end_ns)
    expected = float((ends - starts)[ending].sum()) / length
    return Flow(
        in_flight_mean=under_way,
        in_flight_max=highest,
        little=under_way / expected if expected > 0 else None,
    )
