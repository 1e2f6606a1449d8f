"""Recorded traffic made ready to be replayed, and replayed once for each setting. Deterministic for a seed.

Predictions of several fixes share what does not depend on the fix: what was fitted to a bootstrap sample of
the answers, and the replay under the settings in force. Only what clients met is kept of a replay.
"""

import random
import statistics
from collections.abc import Mapping, Sequence
from functools import cached_property

from msgspec import Struct
from msgspec.structs import replace

from slipstream.config.settings import Settings
from slipstream.core.pool import PoolLimits
from slipstream.doctor.checks.starved_local import LOCAL
from slipstream.doctor.evidence import UNEXPLAINED_NS_MIN, Evidence, Flow
from slipstream.doctor.outcome import (
    Outcome,
    Took,
    block_length,
    blocks,
    is_clients_fault,
    met,
    outcome,
    span_of,
)
from slipstream.doctor.refusals import Refusing, refusing
from slipstream.doctor.replay import Replayed, Stall, Traffic, replay
from slipstream.doctor.replay_model import Asked, Served
from slipstream.doctor.service_model import Observation, ServiceModel, fitted
from slipstream.doctor.times import is_answered

REQUESTS_MAX = 1_500
"""Requests that are replayed, the latest of the window."""

CPU_SECONDS = 150e-6
"""What the gateway spends on a request, where no record says it."""

_FOREVER_NS = 10**15


class Scene(Struct, frozen=True):
    """What a replay is played under: settings, by a name of their own; with the event loop held, or not."""

    name: str
    settings: Settings
    is_unblocked: bool = False


class Played(Struct, frozen=True):
    """What came of a replay: what the client of each request met, by its number; None of those that left."""

    met: tuple[Took | None, ...]
    span: float
    outcome: Outcome
    beyond: float


class Rehearsal:
    """The traffic of some evidence, replayed under the settings in force and under others."""

    def __init__(self, evidence: Evidence, seed: int) -> None:
        self.flows = _replayed(evidence.flows)
        self.settings = evidence.settings
        self._evidence = evidence
        self._seed = seed
        self._now = Scene("", evidence.settings)
        self._times: dict[int, dict[str, ServiceModel]] = {}
        self._played: dict[tuple[str, int], Played] = {}

    @property
    def is_known(self) -> bool:
        """Whether there are answers enough to model how long they take."""
        return self._everything.is_known

    def play(self, at: int, scene: Scene | None = None) -> Played:
        """Replay number `at` under a scene; None = as it was. The same number means the same luck."""
        scene = scene or self._now
        key = scene.name, at
        if key not in self._played:
            traffic = self.traffic(scene, self._seed * 1000 + at)
            self._played[key] = _played(replay(traffic, scene.settings, seed=at))
        return self._played[key]

    def traffic(self, scene: Scene, sample: int) -> Traffic:
        """The traffic as it was, upstreams behind the bounds of the scene; `sample` draws what is fitted."""
        settings = scene.settings
        served = {
            name: Served(times, self._refusing[name], _limits(settings, name))
            for name, times in self._fitted(sample).items()
        }
        stalls, _ = self._stalls
        models = {name: _models(settings, name, answered) for name, answered in self._answered.items()}
        if scene.is_unblocked:
            free = tuple(replace(each, busy=0.0) for each in self._asked)
            return Traffic(free, served, models, (), self._cpu_seconds)
        return Traffic(self._asked, served, models, stalls, self._cpu_seconds)

    def _fitted(self, sample: int) -> dict[str, ServiceModel]:
        """The times of each upstream, fitted to a bootstrap sample of its answers."""
        if sample not in self._times:
            chance = random.Random(sample)  # noqa: S311 (no secret)
            found = {}
            for name, observed in self._seen.items():
                drawn = fitted([observed[at] for at in _places(len(observed), chance)])
                times = drawn if drawn.is_known else self._whole[name]
                found[name] = replace(
                    times if times.is_known else self._everything, together_max=self._together[name]
                )
            self._times[sample] = found
        return self._times[sample]

    @cached_property
    def _seen(self) -> dict[str, Sequence[Observation]]:
        return _seen(self.flows, self._evidence)

    @cached_property
    def _everything(self) -> ServiceModel:
        return fitted([each for observed in self._seen.values() for each in observed])

    @cached_property
    def _whole(self) -> dict[str, ServiceModel]:
        return {name: fitted(observed) for name, observed in self._seen.items()}

    @cached_property
    def _together(self) -> dict[str, int]:
        """The most that were ever at each upstream at once."""
        found: dict[str, int] = {}
        for flow in self.flows:
            if flow.visit is not None:
                found[flow.visit.upstream] = max(flow.visit.together, found.get(flow.visit.upstream, 1))
        return found

    @cached_property
    def _refusing(self) -> dict[str, Refusing]:
        records = [flow.record for flow in self.flows]
        return {name: refusing(records, name) for name in self._seen}

    @cached_property
    def _answered(self) -> dict[str, tuple[str, ...]]:
        """The models that each upstream was seen to answer for."""
        found: dict[str, set[str]] = {name: set() for name in self._seen}
        for flow in self.flows:
            if flow.record.upstream in found:
                found[flow.record.upstream].add(flow.record.model)
        return {name: tuple(sorted(models)) for name, models in found.items()}

    @cached_property
    def _stalls(self) -> tuple[tuple[Stall, ...], bool]:
        return _stalls(self._evidence, self.flows, self.flows[0].record.arrived_wall_ns)

    @cached_property
    def _asked(self) -> tuple[Asked, ...]:
        return _asked_of(self.flows, self._seen, is_busy=self._stalls[1])

    @cached_property
    def _cpu_seconds(self) -> float:
        records = (flow.record for flow in self.flows)
        spent = [each.gateway_cpu_ns / 1e9 for each in records if each.gateway_cpu_ns is not None]
        return statistics.median(spent) if spent else CPU_SECONDS


class Rehearsals:
    """Those of one evidence: since its onset, and from the beginning of what was seen."""

    def __init__(self, evidence: Evidence, *, seed: int = 0) -> None:
        self.seed = seed
        self._evidence = evidence
        self._made: dict[bool, Rehearsal] = {}

    def of(self, *, is_whole: bool) -> Rehearsal:
        """The one of the whole window, or since the onset; the same where there is none."""
        is_whole = is_whole and bool(self._evidence.before)
        if is_whole not in self._made:
            evidence = self._evidence.whole() if is_whole else self._evidence
            self._made[is_whole] = Rehearsal(evidence, self.seed)
        return self._made[is_whole]


def asked_of(evidence: Evidence) -> tuple[Asked, ...]:
    """The requests of a window, to be sent again; those whose clients left are asked for in full."""
    flows = _replayed(evidence.flows)
    return _asked_of(flows, _seen(flows, evidence), is_busy=False)


def _replayed(flows: Sequence[Flow]) -> tuple[Flow, ...]:
    """The latest; without those that no setting makes good ones, which would be refused in no time again."""
    return tuple(flow for flow in flows if not is_clients_fault(flow.record))[-REQUESTS_MAX:]


def _played(done: Replayed) -> Played:
    by_number = met(done.records)
    stayed = [each for each in by_number if each is not None]
    return Played(tuple(by_number), span_of(stayed), outcome(stayed), done.beyond)


def _places(count: int, chance: random.Random) -> list[int]:
    return blocks(count, block_length(count), chance)


def _seen(flows: Sequence[Flow], evidence: Evidence) -> dict[str, Sequence[Observation]]:
    """Every upstream that gave an answer to one of `flows`, with all its answers."""
    used = {flow.record.upstream for flow in flows if is_answered(flow.record)}
    return {name: answers for name, answers in evidence.answers.items() if name in used}


def _stalls(evidence: Evidence, flows: Sequence[Flow], start_ns: int) -> tuple[tuple[Stall, ...], bool]:
    """What holds the event loop: stalls by the time, or (True) the requests in whose own time it falls."""
    seen = [stall for stall in evidence.stalls if stall.wall_ns > start_ns]
    own = sum(each.parts.gateway for each in flows if each.parts.gateway >= UNEXPLAINED_NS_MIN) / 1e9
    if own >= 0.5 * sum(stall.seconds for stall in seen):
        return (), own > 0
    return tuple(((each.wall_ns - start_ns) / 1e9 - each.seconds, each.seconds) for each in seen), False


def _asked_of(
    flows: Sequence[Flow], seen: Mapping[str, Sequence[Observation]], *, is_busy: bool
) -> tuple[Asked, ...]:
    output = {name: statistics.fmean(each.output for each in observed) for name, observed in seen.items()}
    start_ns = flows[0].record.arrived_wall_ns if flows else 0
    return tuple(_asked(flow, start_ns, output, is_busy=is_busy) for flow in flows)


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


def _models(settings: Settings, name: str, answered: tuple[str, ...]) -> tuple[str, ...]:
    """What an upstream serves: as the settings say, else the models that it was seen to answer for."""
    known = settings.models.upstreams.get(name)
    return known.models if known is not None and known.models else answered


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
