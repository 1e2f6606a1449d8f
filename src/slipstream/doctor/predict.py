"""What a fix would bring, by replaying the recorded traffic with and without it. Deterministic for a seed.

The gain is a difference between two replays that share arrivals and luck, so that what the model of the
upstreams gets wrong is wrong in both. The interval comes from several replays, each with models that were
fitted to another bootstrap sample of what was recorded, and from blocks of the traffic within each.
"""

import random
import statistics
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from slipstream.config.settings import Settings
from slipstream.core.errors import SlipstreamError
from slipstream.core.pool import PoolLimits
from slipstream.doctor.change import changed
from slipstream.doctor.checks.blocked_loop import NAME as BLOCKED
from slipstream.doctor.checks.small_cap import NAME as SMALL_CAP
from slipstream.doctor.checks.starved_local import LOCAL
from slipstream.doctor.checks.starved_local import NAME as STARVED
from slipstream.doctor.evidence import UNEXPLAINED_NS_MIN, Evidence, Flow
from slipstream.doctor.finding import Finding, Fix
from slipstream.doctor.outcome import (
    Interval,
    Outcome,
    Took,
    block_length,
    blocks,
    interval,
    outcome,
    span_of,
    took,
)
from slipstream.doctor.refusals import refusing
from slipstream.doctor.replay import Replayed, Stall, Traffic, replay
from slipstream.doctor.replay_model import Asked, Served
from slipstream.doctor.service_model import Observation, fitted
from slipstream.doctor.times import is_answered

REQUESTS_MAX = 1_500
"""Requests that are replayed, the latest of the window."""

REPLAYS = 6
SAMPLES = 25
"""Bootstrap samples of each replay."""

BEYOND_MAX = 0.02
"""Share of visits beyond 1.5 times what was seen, from which on nothing is predicted."""

OFF_MAX = 0.35
"""Where the replay without the fix misses the recorded p95 by more, it does not know this traffic."""

CPU_SECONDS = 150e-6
"""What the gateway spends on a request, where no record says it."""

QUEUEING = frozenset({SMALL_CAP, STARVED})
"""Causes that make a queue grow: replayed from its beginning, or it would start empty."""

MODEL_ERROR = 0.07
"""What models of upstreams are off beside chance, as a share of a time: without it, intervals that should
hold 90 % of the truths held 70 % of them, on benchmark seeds below 2000, the reported ones among them."""

GAIN_MIN = 0.03
"""A fix that gains less is none."""

_FOREVER_NS = 10**15


class Prediction(Struct, frozen=True):
    """What a fix would bring.

    Attributes:
        now: as recorded.
        then: with the fix.
        p50, p95, throughput: intervals of what they would be, 90 %.
        gain: the share of the p95 that would be saved, replay against replay; negative where it gets worse.
        replay_error: how far the replay without the fix misses the recorded p95, as a share.
        requests: how many were replayed.
        refused: why nothing is predicted; empty where something is.
    """

    now: Outcome
    then: Outcome
    p50: Interval
    p95: Interval
    throughput: Interval
    gain: float
    gain_interval: Interval
    replay_error: float
    requests: int
    refused: str = ""


class Advice(Struct, frozen=True):
    """A fix with what it would bring; None where nothing can be said."""

    fix: Fix
    prediction: Prediction | None
    doubt: str = ""


def advise(evidence: Evidence, finding: Finding, *, seed: int = 0, replays: int = REPLAYS) -> Advice | None:
    """The best of a finding's fixes by its predicted p95; None where it has none."""
    refused: list[Advice] = []
    tried: list[tuple[float, Fix]] = []
    for fix in finding.fixes:
        found = predict(evidence, finding, fix, seed=seed, replays=1)
        if isinstance(found, str):
            refused.append(Advice(fix, None, found))
        else:
            tried.append((_height(found), fix))
    for _, fix in sorted(tried, key=lambda each: each[0]):
        found = predict(evidence, finding, fix, seed=seed, replays=replays)
        if isinstance(found, str):
            refused.append(Advice(fix, None, found))
        elif not fix.setting or _helps(found):
            return Advice(fix, found)
        else:
            return Advice(_nothing_helps(finding, fix), None, f"its best setting would gain {found.gain:.0%}")
    return refused[0] if refused else None


def _helps(told: Prediction) -> bool:
    """Whether a fix is worth its while: surely faster, or more requests get an answer."""
    is_faster = told.gain >= GAIN_MIN and told.gain_interval.low > 0
    return is_faster or told.then.failed_share < told.now.failed_share - GAIN_MIN


def _nothing_helps(finding: Finding, fix: Fix) -> Fix:
    text = f"no setting here helps: look at {finding.subject} itself"
    return Fix("", "", "", text, is_live=False) if fix.setting else fix


def _height(prediction: Prediction) -> float:
    return prediction.then.p95 * (1.0 + 4.0 * prediction.then.failed_share)


def predict(
    evidence: Evidence, finding: Finding, fix: Fix, *, seed: int = 0, replays: int = REPLAYS
) -> Prediction | str:
    """What `fix` would bring, or why that cannot be said."""
    if finding.check in QUEUEING:
        evidence = evidence.whole()
    flows = evidence.flows[-REQUESTS_MAX:]
    settings = evidence.settings
    is_loop = finding.check == BLOCKED
    if not fix.setting and not is_loop:
        return "it is no setting of ours"
    if fix.setting.startswith("models.local.") and not fix.setting.endswith(".slots"):
        return "no traffic under another value was seen"
    try:
        other = changed(settings, fix.setting, fix.after) if fix.setting else settings
    except SlipstreamError as error:
        return str(error)
    everything = [each for seen in _seen(flows, evidence).values() for each in seen]
    if not fitted(everything).is_known:
        return "there are too few answers to model how long they take"
    pairs: list[tuple[Replayed, Replayed]] = []
    for at in range(replays):
        traffic = traffic_of(evidence, flows, settings, sample=seed * 1000 + at)
        then = traffic_of(evidence, flows, other, sample=seed * 1000 + at)
        if is_loop:
            then = _unblocked(then)
        pairs.append((replay(traffic, settings, seed=at), replay(then, other, seed=at)))
    beyond = max(after.beyond for _, after in pairs)
    if beyond > BEYOND_MAX:
        return f"{beyond:.0%} of the requests would meet more at once than 1.5 times what was ever seen"
    return _summed(flows, pairs, seed)


def _summed(flows: Sequence[Flow], pairs: Sequence[tuple[Replayed, Replayed]], seed: int) -> Prediction | str:
    now = outcome(took([flow.record for flow in flows]))
    before = [outcome(took(each.records)) for each, _ in pairs]
    after = [outcome(took(each.records)) for _, each in pairs]
    off = statistics.median(each.p95 for each in before) / max(now.p95, 1e-9) - 1.0
    if abs(off) > OFF_MAX:
        return f"the replay of what was recorded misses its p95 by {off:+.0%}: this traffic is not understood"
    chance = random.Random(seed)  # noqa: S311 (no secret)
    drawn: list[Outcome] = []
    gains: list[float] = []
    for one, other in pairs:
        first, second = _by_number(one), _by_number(other)
        spans = [span_of([each for each in side if each is not None]) for side in (first, second)]
        for _ in range(SAMPLES):
            places = _places(len(first), chance)
            base, then = (
                outcome([each for at in places if (each := side[at]) is not None], span=span)
                for side, span in zip((first, second), spans, strict=True)
            )
            drawn.append(then)
            gains.append(1.0 - drawn[-1].p95 / max(base.p95, 1e-9))
    middle = _middle(after)
    spread = interval(gains)
    off_low, off_high = 1.0 - MODEL_ERROR, 1.0 + MODEL_ERROR
    return Prediction(
        now=now,
        then=middle,
        p50=_widened(interval([each.p50 for each in drawn])),
        p95=_widened(interval([each.p95 for each in drawn])),
        throughput=interval([each.throughput for each in drawn]),
        gain=1.0 - middle.p95 / max(_middle(before).p95, 1e-9),
        gain_interval=Interval(1.0 - (1.0 - spread.low) * off_high, 1.0 - (1.0 - spread.high) * off_low),
        replay_error=off,
        requests=len(flows),
    )


def _by_number(played: Replayed) -> list[Took | None]:
    """What the client of each request met, by its number; None of those that left."""
    met = iter(took(played.records))
    return [None if record.outcome == "aborted" else next(met) for record in played.records]


def _widened(spread: Interval) -> Interval:
    """With what the models of the upstreams are off beside chance."""
    return Interval(spread.low * (1.0 - MODEL_ERROR), spread.high * (1.0 + MODEL_ERROR))


def _middle(outcomes: Sequence[Outcome]) -> Outcome:
    costs = [each.cost for each in outcomes if each.cost is not None]
    return Outcome(
        statistics.median(each.p50 for each in outcomes),
        statistics.median(each.p95 for each in outcomes),
        statistics.median(each.throughput for each in outcomes),
        statistics.median(each.failed_share for each in outcomes),
        statistics.median(costs) if costs else None,
    )


def _places(count: int, chance: random.Random) -> list[int]:
    return blocks(count, block_length(count), chance)


# From the evidence to what is replayed.


def traffic_of(evidence: Evidence, flows: Sequence[Flow], settings: Settings, *, sample: int) -> Traffic:
    """The traffic as it was, upstreams behind the bounds of `settings`; `sample` draws what is fitted."""
    chance = random.Random(sample)  # noqa: S311 (no secret)
    records = [flow.record for flow in flows]
    start_ns = records[0].arrived_wall_ns
    seen = _seen(flows, evidence)
    served = {}
    together: dict[str, int] = {}
    for flow in flows:
        if flow.visit is not None:
            together[flow.visit.upstream] = max(flow.visit.together, together.get(flow.visit.upstream, 1))
    everything = fitted([each for observed in seen.values() for each in observed])
    for name, observed in seen.items():
        drawn = fitted([observed[at] for at in _places(len(observed), chance)])
        times = next((each for each in (drawn, fitted(observed)) if each.is_known), everything)
        times = replace(times, together_max=together[name])
        served[name] = Served(times, refusing(records, name), _limits(settings, name))
    output = {name: statistics.fmean(each.output for each in observed) for name, observed in seen.items()}
    spent = [record.gateway_cpu_ns / 1e9 for record in records if record.gateway_cpu_ns is not None]
    stalls, busy = _stalls(evidence, flows, start_ns)
    return Traffic(
        tuple(_asked(flow, start_ns, output, is_busy=busy) for flow in flows),
        served,
        _models(flows, settings, seen),
        stalls,
        statistics.median(spent) if spent else CPU_SECONDS,
    )


def _seen(flows: Sequence[Flow], evidence: Evidence) -> dict[str, list[Observation]]:
    """Every upstream that gave an answer to one of `flows`, with all its answers."""
    used = {flow.record.upstream for flow in flows if is_answered(flow.record)}
    return {name: list(answers) for name, answers in evidence.answers.items() if name in used}


def asked_of(evidence: Evidence) -> tuple[Asked, ...]:
    """The requests of a window, to be sent again; those whose clients left are asked for in full."""
    flows = evidence.flows[-REQUESTS_MAX:]
    output = {
        name: statistics.fmean(each.output for each in seen) for name, seen in _seen(flows, evidence).items()
    }
    start_ns = flows[0].record.arrived_wall_ns if flows else 0
    return tuple(_asked(flow, start_ns, output, is_busy=False) for flow in flows)


def _unblocked(traffic: Traffic) -> Traffic:
    """The same traffic where nothing holds the event loop."""
    return replace(traffic, stalls=(), asked=tuple(replace(each, busy=0.0) for each in traffic.asked))


def _stalls(evidence: Evidence, flows: Sequence[Flow], start_ns: int) -> tuple[tuple[Stall, ...], bool]:
    """What holds the event loop: stalls by the time, or (True) the requests in whose own time it falls."""
    seen = [stall for stall in evidence.stalls if stall.wall_ns > start_ns]
    own = sum(each.parts.gateway for each in flows if each.parts.gateway >= UNEXPLAINED_NS_MIN) / 1e9
    if own >= 0.5 * sum(stall.seconds for stall in seen):
        return (), own > 0
    return tuple(((each.wall_ns - start_ns) / 1e9 - each.seconds, each.seconds) for each in seen), False


def _asked(flow: Flow, start_ns: int, output: Mapping[str, float], *, is_busy: bool) -> Asked:
    record = flow.record
    prompt = record.prompt_tokens if record.prompt_tokens is not None else record.request_bytes / 4.0
    usual = round(output.get(record.upstream, 16.0))
    is_left = record.outcome == "aborted"
    tokens = usual if is_left or record.output_tokens is None else record.output_tokens
    return Asked(
        max(0.0, (record.arrived_wall_ns - start_ns) / 1e9),
        record.model_asked,
        float(prompt),
        max(1, tokens),
        record.stream,
        record.duration_ns / 1e9 if is_left else None,
        flow.parts.gateway / 1e9 if is_busy and flow.parts.gateway >= UNEXPLAINED_NS_MIN else 0.0,
    )


def _models(
    flows: Sequence[Flow], settings: Settings, seen: Mapping[str, object]
) -> dict[str, tuple[str, ...]]:
    """What each upstream serves: as the settings say, else the models that it was seen to answer for."""
    found: dict[str, tuple[str, ...]] = {}
    for name in seen:
        known = settings.models.upstreams.get(name)
        if known is not None and known.models:
            found[name] = known.models
        else:
            found[name] = tuple(sorted({flow.record.model for flow in flows if flow.record.upstream == name}))
    return found


def _limits(settings: Settings, name: str) -> PoolLimits:
    workers = settings.server.workers
    known = settings.models.upstreams.get(name)
    if name == LOCAL:
        local = settings.models.local
        return PoolLimits(local.slots, local.waiting * workers, _FOREVER_NS, _FOREVER_NS, _FOREVER_NS)
    if known is None:
        return PoolLimits(10**6, 0, _FOREVER_NS, _FOREVER_NS, _FOREVER_NS)
    wait_ns = int(known.wait_seconds * 1e9)
    return PoolLimits(known.connections * workers, known.waiting * workers, wait_ns, _FOREVER_NS, _FOREVER_NS)
