"""What a fix would bring, by replaying the recorded traffic with and without it. Deterministic for a seed.

The gain is a difference between two replays that share arrivals and luck, so that what the model of the
upstreams gets wrong is wrong in both. The interval comes from several replays, each with models that were
fitted to another bootstrap sample of what was recorded, and from blocks of the traffic within each.
"""

import random
import statistics
from collections.abc import Sequence

from msgspec import Struct

from slipstream.core.errors import SlipstreamError
from slipstream.doctor.change import changed
from slipstream.doctor.checks.blocked_loop import NAME as BLOCKED
from slipstream.doctor.checks.small_cap import NAME as SMALL_CAP
from slipstream.doctor.checks.starved_local import NAME as STARVED
from slipstream.doctor.evidence import Evidence, Flow
from slipstream.doctor.finding import Finding, Fix
from slipstream.doctor.outcome import Interval, Outcome, block_length, blocks, interval, outcome, took
from slipstream.doctor.rehearsal import Played, Rehearsals, Scene

REPLAYS = 6
SAMPLES = 25
"""Bootstrap samples of each replay."""

BEYOND_MAX = 0.02
"""Share of visits beyond 1.5 times what was seen, from which on nothing is predicted."""

OFF_MAX = 0.35
"""Where the replay without the fix misses the recorded p95 by more, it does not know this traffic."""

QUEUEING = frozenset({SMALL_CAP, STARVED})
"""Causes that make a queue grow: replayed from its beginning, or it would start empty."""

MODEL_ERROR = 0.07
"""What models of upstreams are off beside chance, as a share of a time: without it, intervals that should
hold 90 % of the truths held 70 % of them, on benchmark seeds below 2000, the reported ones among them."""

NO_TRAFFIC = {
    "models.local.threads": "no traffic with other threads was seen, and nothing here models a core",
    "models.local.context_tokens": "no answer to prompts as long as those refused was seen",
}
"""Why settings of the embedded model are not predicted."""

GAIN_MIN = 0.03
"""A fix that gains less is none."""


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


def advise(
    evidence: Evidence,
    finding: Finding,
    *,
    seed: int = 0,
    replays: int = REPLAYS,
    rehearsals: Rehearsals | None = None,
) -> Advice | None:
    """The best of a finding's fixes by its predicted p95; None where it has none.

    `rehearsals`: of the same evidence, for other findings; what was replayed for them is not replayed again.
    """
    refused: list[Advice] = []
    tried: list[tuple[float, Fix]] = []
    rehearsals = rehearsals or Rehearsals(evidence, seed=seed)
    for fix in finding.fixes:
        found = _predicted(rehearsals, finding, fix, 1)
        if isinstance(found, str):
            refused.append(Advice(fix, None, found))
        else:
            tried.append((_height(found), fix))
    for _, fix in sorted(tried, key=lambda each: each[0]):
        found = _predicted(rehearsals, finding, fix, replays)
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
    return _predicted(Rehearsals(evidence, seed=seed), finding, fix, replays)


def _predicted(rehearsals: Rehearsals, finding: Finding, fix: Fix, replays: int) -> Prediction | str:
    is_loop = finding.check == BLOCKED
    if not fix.setting and not is_loop:
        return "it is no setting of ours"
    if fix.setting.startswith("models.local.") and not fix.setting.endswith(".slots"):
        return NO_TRAFFIC.get(fix.setting, "no traffic under another value was seen")
    rehearsal = rehearsals.of(is_whole=finding.check in QUEUEING)
    settings = rehearsal.settings
    try:
        other = changed(settings, fix.setting, fix.after) if fix.setting else settings
    except SlipstreamError as error:
        return str(error)
    if not rehearsal.is_known:
        return "there are too few answers to model how long they take"
    scene = Scene(f"{fix.setting}={fix.after}", other, is_unblocked=is_loop)
    pairs = [(rehearsal.play(at), rehearsal.play(at, scene)) for at in range(replays)]
    beyond = max(after.beyond for _, after in pairs)
    if beyond > BEYOND_MAX:
        return f"{beyond:.0%} of the requests would meet more at once than 1.5 times what was ever seen"
    return _summed(rehearsal.flows, pairs, rehearsals.seed)


def _summed(flows: Sequence[Flow], pairs: Sequence[tuple[Played, Played]], seed: int) -> Prediction | str:
    now = outcome(took([flow.record for flow in flows]))
    before = [one.outcome for one, _ in pairs]
    after = [other.outcome for _, other in pairs]
    off = statistics.median(each.p95 for each in before) / max(now.p95, 1e-9) - 1.0
    if abs(off) > OFF_MAX:
        return f"the replay of what was recorded misses its p95 by {off:+.0%}: this traffic is not understood"
    chance = random.Random(seed)  # noqa: S311 (no secret)
    drawn: list[Outcome] = []
    gains: list[float] = []
    for one, other in pairs:
        for _ in range(SAMPLES):
            places = _places(len(one.met), chance)
            base, then = (
                outcome([each for at in places if (each := side.met[at]) is not None], span=side.span)
                for side in (one, other)
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
