"""Recorded requests as traces: what the profilers tell of a program's calls they tell of these too.

A step lies within another one where its time does (`prompt` within `first_byte`, `decode` within `relay`).
"""

import heapq
from collections.abc import Iterable

from msgspec import Struct

from slipstream.core.record import Record, Step
from slipstream.core.steps import KINDS, Span, Trace
from slipstream.profiling.collection import Collection
from slipstream.profiling.critical_path import own_time_ns
from slipstream.profiling.profile_data import OWN, ProfileData, profile_data
from slipstream.profiling.step_timing import MS
from slipstream.profiling.waits import Surroundings, Waits

SLOWEST_MAX = 10
"""Requests that are named in a report, the slowest ones."""
_FIRST_NS = 1  # an end of 0 would mean that a span is open
_KINDS = {
    "admit": "cpu",
    "read": "cpu",
    "select": "cpu",
    "wait": "queue",
    "queue": "queue",
    "back_off": "queue",
    "open": "upstream",
    "prompt": "upstream",
    "decode": "upstream",
    "embed": "upstream",
    "first_byte": "upstream",
    "relay": "upstream",
}
"""What the steps of a request's way wait for; of others it is not said."""
assert set(_KINDS.values()) <= set(KINDS)


class StepRow(Struct, frozen=True):
    """A step over many requests; milliseconds, shares of one.

    Attributes:
        share: its part of the critical path of all requests; the shares add up to one.
        tail_variance, tail_gap: its part in what makes slow requests slow, by both views of `tail`.
    """

    step: str
    count: int
    total_ms: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float
    share: float
    tail_variance: float
    tail_gap: float


class SlowRequest(Struct, frozen=True):
    """One of the slowest requests: by its id the waterfall is found.

    Attributes:
        at: when it came, seconds since 1970.
        model: the one that answered, or the one asked for.
    """

    id: str
    at: float
    duration_ms: float
    model: str
    outcome: str


class StepsReport(Struct, frozen=True):
    """Where the time of recorded requests went.

    Attributes:
        requests: of how many it tells.
        cut: whether there were more in the range than were looked at.
        p50_ms, p95_ms: of the whole requests, None where there is none.
        bottleneck: the step that explains the p95, empty where none stands out; `reason` says why.
        waits: shares of the critical path of all requests by what was waited for; they add up to one.
        slowest: the slowest requests, slowest first.
        unplaced: requests of which it is not known which process served them, or whose stalls are not known
            any more: waiting for its loop is not told from what their steps say.
    """

    requests: int
    cut: bool
    p50_ms: float | None
    p95_ms: float | None
    rows: tuple[StepRow, ...]
    bottleneck: str
    reason: str
    waits: dict[str, float]
    slowest: tuple[SlowRequest, ...] = ()
    unplaced: int = 0


class RecordedTrace(Trace):
    """The trace of a record: its times are on no clock of this process.

    Attributes:
        to_wall_ns: what to add to one of them for nanoseconds since 1970.
    """

    __slots__ = ("to_wall_ns",)

    def __init__(self, record: Record) -> None:
        super().__init__(record.route or "request")
        self.to_wall_ns = record.arrived_wall_ns - _FIRST_NS


def trace_of(record: Record) -> RecordedTrace:
    """The trace of a closed record; its times begin at the request's arrival."""
    trace = RecordedTrace(record)
    root = trace.root
    root.start_ns, root.end_ns = _FIRST_NS, _FIRST_NS + max(0, record.duration_ns)
    if record.first_token_ns is not None:
        root.first_ns = min(_FIRST_NS + max(0, record.first_token_ns), root.end_ns)
    root.error = record.error_type
    open_spans = [root]
    for step in sorted(record.steps, key=lambda each: (each.start_ns, -each.duration_ns)):
        start_ns, end_ns = _times(step, root)
        while len(open_spans) > 1 and not _within(start_ns, end_ns, open_spans[-1]):
            open_spans.pop()
        span = trace.open(open_spans[-1], step.name, _KINDS.get(step.name, ""))
        span.start_ns, span.end_ns = start_ns, end_ns
        open_spans.append(span)
    return trace


class OwnTimes:
    """What requests spend outside of every step, by route: how many they are, and nanoseconds in all."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, int]] = {}

    def add(self, root: Span) -> None:
        """One more request."""
        name = root.name + OWN if root.children else root.name
        count, total_ns = self._sums.get(name, (0, 0))
        self._sums[name] = count + 1, total_ns + own_time_ns(root)

    def rows(self, data: ProfileData) -> list[StepRow]:
        """Without them the shares would not add up; those are of the sample, as the shares of steps."""
        tails = {each.step: each for each in data.tail}
        shares = {each.step: each.share for each in data.critical_path}
        rows = []
        for name, (count, total_ns) in sorted(self._sums.items(), key=lambda each: -each[1][1]):
            share = shares.get(name, 0.0)
            if name in data.step_timings or not (total_ns or share):
                continue
            tail, total_ms = tails.get(name), total_ns / MS
            variance, gap = (tail.variance, tail.gap) if tail is not None else (0.0, 0.0)
            mean_ms = total_ms / count
            rows.append(StepRow(name, count, total_ms, mean_ms, 0.0, 0.0, 0.0, share, variance, gap))
        return rows


def steps_report(
    records: Iterable[Record], *, cut: bool = False, surroundings: Surroundings | None = None
) -> StepsReport:
    """The table of the steps of these requests, all routes together.

    Args:
        records: closed ones.
        cut: whether there were more.
        surroundings: what is known of the server they ran in; None: nothing.
    """
    records = list(records)
    waits = Waits(surroundings or Surroundings())
    collection, owns = Collection(), OwnTimes()
    for record in records:
        trace = trace_of(record)
        owns.add(trace.root)
        waits.add(record, trace.root, trace.to_wall_ns)
        collection.add(trace)  # which lets go of what it does not keep
    collection.settle()
    data = profile_data(collection)
    durations = sorted(record.duration_ns / MS for record in records)
    shares = {each.step: each.share for each in data.critical_path}
    rows = []
    tails = {each.step: each for each in data.tail}
    for name, timing in data.step_timings.items():
        tail = tails.get(name)
        variance, gap = (tail.variance, tail.gap) if tail is not None else (0.0, 0.0)
        rows.append(
            StepRow(
                name, timing.count, float(timing), timing.mean,
                min(timing.p50, timing.max), min(timing.p95, timing.max), timing.max,
                shares.get(name, 0.0), variance, gap,
            )
        )  # fmt: skip
    return StepsReport(
        len(records),
        cut,
        _quantile(durations, 0.5),
        _quantile(durations, 0.95),
        (*rows, *owns.rows(data)),
        str(data.bottleneck or ""),
        data.reason,
        waits.shares(),
        tuple(map(_slow, heapq.nlargest(SLOWEST_MAX, records, key=lambda record: record.duration_ns))),
        waits.unplaced,
    )


def _slow(record: Record) -> SlowRequest:
    model = record.model or record.model_asked or ""
    at = record.arrived_wall_ns / 1e9
    return SlowRequest(record.id, at, record.duration_ns / MS, model, record.outcome)


def _times(step: Step, root: Span) -> tuple[int, int]:
    """Within the request, whatever a clock said."""
    start_ns = min(max(root.start_ns, _FIRST_NS + step.start_ns), root.end_ns)
    return start_ns, min(max(start_ns, start_ns + max(0, step.duration_ns)), root.end_ns)


def _within(start_ns: int, end_ns: int, span: Span) -> bool:
    return span.start_ns <= start_ns and end_ns <= span.end_ns and start_ns < span.end_ns


def _quantile(ordered: list[float], q: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
