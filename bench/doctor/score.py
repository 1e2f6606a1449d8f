"""One case, scored: is the right cause named first, and does the fix bring what was predicted?"""

import random
import statistics
import time
from dataclasses import dataclass, field, replace

import msgspec
from cases import Case, World
from world import live

from slipstream.doctor.change import changed
from slipstream.doctor.diagnosis import Diagnosis, diagnose
from slipstream.doctor.evidence import Evidence, gather
from slipstream.doctor.outcome import block_length, blocks, interval, outcome, took
from slipstream.doctor.times import quantile

CAUSES = ("slow_upstream", "small_cap", "blocked_loop", "retry_storm", "starved_local")
SAMPLES = 100
FAILED_MORE = 0.03
P95_MORE = 1.15


@dataclass
class Scored:
    kind: str
    seed: int
    moved: bool
    healthy_p95: float
    p95: float
    failed_share: float = 0.0
    named: list[str] = field(default_factory=list)
    subject_right: bool | None = None
    baselines: dict[str, str] = field(default_factory=dict)
    setting: str = ""
    refused: str = ""
    predicted: dict[str, float] = field(default_factory=dict)
    actual: dict[str, float] = field(default_factory=dict)
    p95_interval: tuple[float, float] | None = None
    p50_interval: tuple[float, float] | None = None
    diagnose_seconds: float = 0.0
    replayed_virtual_seconds: float = 0.0


def score(case: Case, *, replays: int) -> Scored:
    live(case.world)
    if case.healthy is not case.world:
        live(case.healthy)
    now, well = took(case.world.records), took(case.healthy.records)
    told = Scored(case.kind, case.seed, moved(well, now), outcome(well).p95, outcome(now).p95)
    told.failed_share = outcome(now).failed_share
    started = time.perf_counter()
    evidence = gather(case.world.records, case.world.settings, case.world.stalls)
    found = diagnose(evidence, replays=replays)
    told.diagnose_seconds = time.perf_counter() - started
    told.replayed_virtual_seconds = evidence.seconds
    told.named = [cause.finding.check for cause in found.causes]
    told.baselines = baselines(evidence, case.seed)
    if told.named and told.named[0] == case.kind:
        if case.subject:
            told.subject_right = found.causes[0].finding.subject in {case.subject, "slots"}
        verify(case, found, told)
    return told


def moved(well: list, now: list) -> bool:
    """Whether the fault has moved the p95 or the share that is answered beyond noise."""
    chance = random.Random(1)
    one, other = [], []
    for _ in range(SAMPLES):
        one.append(outcome([well[at] for at in blocks(len(well), block_length(len(well)), chance)]).p95)
        other.append(outcome([now[at] for at in blocks(len(now), block_length(len(now)), chance)]).p95)
    before, after = outcome(well), outcome(now)
    slower = interval(other).low > interval(one).high and after.p95 > P95_MORE * before.p95
    return slower or after.failed_share > before.failed_share + FAILED_MORE


def verify(case: Case, found: Diagnosis, told: Scored) -> None:
    """Do what was advised, in the true world, with other luck."""
    advice = found.causes[0].advice
    if advice is None or advice.prediction is None:
        told.refused = advice.doubt if advice else "no fix"
        told.setting = advice.fix.setting if advice else ""
        return
    told.setting = f"{advice.fix.setting} = {advice.fix.after}"
    world = mended(case.world, advice.fix.setting, advice.fix.after)
    truths = []
    for luck in (1, 2, 3):
        live(replaced := replace(world, seed=world.seed + 1000 * luck, records=[], stalls=[]))
        truths.append(outcome(took(replaced.records)))
    prediction = advice.prediction
    told.predicted = msgspec.to_builtins(prediction.then)
    told.actual = {
        name: statistics.median(getattr(t, name) for t in truths)
        for name in ("p50", "p95", "throughput", "failed_share")
    }
    told.actual["p95_one"] = truths[0].p95
    told.actual["p50_one"] = truths[0].p50
    told.p95_interval = (prediction.p95.low, prediction.p95.high)
    told.p50_interval = (prediction.p50.low, prediction.p50.high)


def mended(world: World, setting: str, value: str) -> World:
    if not setting:
        return replace(world, asks=[replace(ask, holds=0.0) for ask in world.asks])
    world = replace(world, settings=changed(world.settings, setting, value))
    if setting == "models.local.slots":
        behind = [
            replace(b, script=msgspec.structs.replace(b.script, slots=int(value))) for b in world.behind
        ]
        world = replace(world, behind=behind)
    return world


def baselines(evidence: Evidence, seed: int) -> dict[str, str]:
    """What simpler rules would name: the part with the largest mean, with the largest p95, and by lot."""
    parts = {
        "small_cap": [f.parts.queue if f.record.upstream != "local" else 0 for f in evidence.flows],
        "starved_local": [f.parts.queue if f.record.upstream == "local" else 0 for f in evidence.flows],
        "retry_storm": [f.parts.failed + f.parts.waiting for f in evidence.flows],
        "slow_upstream": [f.parts.service for f in evidence.flows],
        "blocked_loop": [f.parts.gateway for f in evidence.flows],
    }
    return {
        "largest_mean_step": max(parts, key=lambda name: statistics.fmean(parts[name])),
        "largest_p95_step": max(parts, key=lambda name: quantile(parts[name], 0.95)),
        "random": random.Random(f"lot {seed}").choice(CAUSES),
    }
