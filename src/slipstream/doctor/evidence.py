"""What the checks are given: the records of a window with what follows from them, and the settings in force.

Pure; who fetches it is `doctor.py`. All checks see the same, and none sees another's opinion.
"""

import bisect
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from slipstream.config.settings import Settings
from slipstream.core.record import Record
from slipstream.core.stalls import StallSeen
from slipstream.core.use import UseRow
from slipstream.doctor.onset import Onset, onset
from slipstream.doctor.outcome import is_clients_fault
from slipstream.doctor.service_model import Observation, observations
from slipstream.doctor.times import Parts, Visit, gap_of, parts_of, quantile, visits

RECORDS_MAX = 20_000
"""Records of a window that are looked at, the latest."""

RECORDS_MIN = 40
"""With fewer there is nothing to say."""

SLOW_SHARE = 0.9
"""The slow requests are those beyond this quantile: what explains them is what a cause is ranked by."""

WAIT_SHOWN_NS = 1_000_000
"""A request that waited less did not wait."""


UNEXPLAINED_NS_MIN = 20_000_000
"""A request's own steps and all between them take less than a millisecond; 20 are a stall's."""

AFTER_NS = 30_000_000
"""What arrives so soon after a stall had been there before, nobody knows for how long."""


class Flow(Struct, frozen=True):
    """One request with its parts, and its visit to an upstream if there was one."""

    record: Record
    parts: Parts
    visit: Visit | None

    def asked(self, load: float = 1.0) -> Observation:
        """What an upstream was asked for, with `load` times as many there; a model says how long it takes."""
        record, visit = self.record, self.visit
        together, mean = (visit.together, visit.mean_together) if visit is not None else (1.0, 1.0)
        return Observation(
            float(record.prompt_tokens or 0),
            float(record.output_tokens or 1),
            record.stream,
            max(1.0, together * load),
            max(1.0, mean * load),
            0.0,
            0.0,
        )


class Evidence(Struct, frozen=True):
    """All that is known of a window.

    Attributes:
        flows: the requests since the onset (all, where there is none), oldest first.
        before: those before it.
        onset: the change for the worse inside the window.
        slow: the slow ones among `flows`.
        answers: of each upstream, what it gave.
        stalls: of the workers' event loops, since the onset.
        settings: those in force; what they say of connections holds for each worker.
        resources: the USE table of the live server, now; empty without one.
        settings_since_wall_ns: when the settings last changed inside the window: what arrived before is
            left out. 0 where they did not.
        cores: that the embedded model may use; 0 where that is not known.
    """

    flows: tuple[Flow, ...]
    before: tuple[Flow, ...]
    onset: Onset | None
    slow: tuple[Flow, ...]
    answers: dict[str, tuple[Observation, ...]]
    answers_before: dict[str, tuple[Observation, ...]]
    stalls: tuple[StallSeen, ...]
    settings: Settings
    resources: tuple[UseRow, ...] = ()
    settings_since_wall_ns: int = 0
    cores: int = 0

    @property
    def is_enough(self) -> bool:
        """Whether there are requests enough to say anything."""
        return len(self.flows) >= RECORDS_MIN

    @property
    def slow_ns(self) -> int:
        """All the time of the slow requests."""
        return max(1, sum(each.record.duration_ns for each in self.slow))

    @property
    def seconds(self) -> float:
        """From the first arrival to the last end."""
        if not self.flows:
            return 0.0
        first = self.flows[0].record.arrived_wall_ns
        last = max(each.record.arrived_wall_ns + each.record.duration_ns for each in self.flows)
        return max(1e-9, (last - first) / 1e9)

    def whole(self) -> "Evidence":
        """The same without the onset: what came before it belongs to the rest.

        A queue that grows is slow from some moment on, though nothing has changed but its length.
        """
        answers = {
            name: (*self.answers_before.get(name, ()), *self.answers.get(name, ()))
            for name in dict.fromkeys((*self.answers_before, *self.answers))
        }
        flows = (*self.before, *self.flows)
        return replace(self, flows=flows, before=(), onset=None, answers=answers, answers_before={})

    def at(self, upstream: str) -> list[Flow]:
        """The requests that were last at an upstream."""
        return [each for each in self.flows if each.record.upstream == upstream]


def gather(
    records: Sequence[Record],
    settings: Settings,
    stalls: Sequence[StallSeen] = (),
    resources: Sequence[UseRow] = (),
    *,
    settings_since_wall_ns: int = 0,
    cores: int = 0,
) -> Evidence:
    """The evidence of records in any order; those from before the settings changed are left out."""
    kept = (record for record in records if record.arrived_wall_ns >= settings_since_wall_ns)
    ordered = sorted(kept, key=lambda record: record.arrived_wall_ns)[-RECORDS_MAX:]
    change = _change(ordered)
    at = change.index if change is not None else 0
    flows, before = _flows(ordered[at:]), _flows(ordered[:at])
    since_ns = ordered[at].arrived_wall_ns if ordered else 0
    limit = quantile([each.record.duration_ns for each in flows], SLOW_SHARE)
    return Evidence(
        flows=flows,
        before=before,
        onset=change,
        slow=tuple(each for each in flows if each.record.duration_ns >= limit),
        answers=_answers(flows, _stalled(flows, stalls)),
        answers_before=_answers(before, _stalled(before, stalls)),
        stalls=tuple(each for each in stalls if each.wall_ns >= since_ns),
        settings=settings,
        resources=tuple(resources),
        settings_since_wall_ns=settings_since_wall_ns,
        cores=cores,
    )


def _change(records: Sequence[Record]) -> Onset | None:
    """When requests became slow; where the whole does not show it, when one upstream's answers did.

    One of several that turns slow is avoided by then, and hardly moves the whole. Requests that are refused
    for what they are take no time, and tell nothing of when others began to.
    """
    judged = [at for at, record in enumerate(records) if not is_clients_fault(record)]
    change = onset([records[at].duration_ns / 1e9 for at in judged])
    if change is not None:
        return replace(change, index=judged[change.index])
    best: Onset | None = None
    for upstream in {record.upstream for record in records if record.upstream}:
        places = [at for at, record in enumerate(records) if record.upstream == upstream]
        found = onset([parts_of(records[at]).service / 1e9 for at in places])
        if found is not None and (best is None or found.t > best.t):
            best = replace(found, index=places[found.index])
    return best


def _flows(records: Sequence[Record]) -> tuple[Flow, ...]:
    found = {visit.index: visit for visit in visits(records)}
    return tuple(Flow(record, parts_of(record), found.get(at)) for at, record in enumerate(records))


def _stalled(flows: Sequence[Flow], stalls: Sequence[StallSeen]) -> list[int]:
    """When stalls ended, as far as they were seen by a watch or have left a gap in a request; in order."""
    gaps = [gap_of(each.record)[1] for each in flows if each.parts.gateway >= UNEXPLAINED_NS_MIN]
    return sorted([*(stall.wall_ns for stall in stalls), *gaps])


def _is_delayed(record: Record, ends: Sequence[int]) -> bool:
    """Whether an answer's first byte or end came right after a stall: then its time is not the upstream's."""
    for at in (record.first_byte_ns or 0, record.duration_ns):
        wall_ns = record.arrived_wall_ns + at
        place = bisect.bisect_right(ends, wall_ns)
        if place and wall_ns - ends[place - 1] <= AFTER_NS:
            return True
    return False


def _answers(flows: Sequence[Flow], ends: Sequence[int]) -> dict[str, tuple[Observation, ...]]:
    records = [each.record for each in flows]
    found = [each.visit for each in flows if each.visit and not (ends and _is_delayed(each.record, ends))]
    seen = observations(records, found)
    return {upstream: tuple(answers) for upstream, answers in seen.items()}


def ids(flows: Sequence[Flow], count: int = 5) -> tuple[str, ...]:
    """Names of the slowest of some requests, to be looked at."""
    ordered = sorted(flows, key=lambda each: -each.record.duration_ns)
    return tuple(each.record.id for each in ordered[:count])
