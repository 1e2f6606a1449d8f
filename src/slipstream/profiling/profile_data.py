"""What a profiler found out, to be read and printed. Times are milliseconds."""

from collections.abc import Mapping
from typing import Self

from msgspec import Struct

from slipstream.core.histogram import Sketch
from slipstream.core.steps import Span, Trace
from slipstream.profiling.collection import Collection, Sums
from slipstream.profiling.critical_path import by_kind, by_name, critical_path, own_time_ns
from slipstream.profiling.tail import TailShare, Verdict, tail_shares, verdict

MS = 1e6
OWN = " (own time)"


class StepTiming(float):
    """Total milliseconds of a step, with how they are spread.

    Attributes:
        count, errors: how often it ran, and ended with an exception.
        self_ms: its time that no step within it covers.
        mean, p50, p95, p99, max: of one run; percentiles within 1.1 %.
    """

    __slots__ = ("count", "errors", "max", "mean", "p50", "p95", "p99", "self_ms")

    count: int
    errors: int
    self_ms: float
    mean: float
    p50: float
    p95: float
    p99: float
    max: float

    def __new__(cls, sums: Sums) -> Self:
        """Of the sums of a name."""
        timing = super().__new__(cls, sums.total_ns / MS)
        sketch = Sketch(sums.buckets, sums.total_ns, MS)
        timing.count, timing.errors = sums.count, sums.errors
        timing.self_ms = sums.own_ns / MS
        timing.mean = sums.total_ns / sums.count / MS
        timing.p50, timing.p95, timing.p99 = (sketch.quantile(q) or 0.0 for q in (0.5, 0.95, 0.99))
        timing.max = sums.max_ns / MS
        return timing


class Bottleneck(str):
    """The step that explains the slow calls; a text that says why and how much.

    Attributes:
        reason: in words.
        share: of what it explains, 0..1.
    """

    __slots__ = ("reason", "share")

    reason: str
    share: float

    def __new__(cls, step: str, reason: str, share: float) -> Self:
        """Of a verdict."""
        bottleneck = super().__new__(cls, step)
        bottleneck.reason, bottleneck.share = reason, share
        return bottleneck


class CriticalStep(Struct, frozen=True):
    """A step's part of the critical path; the shares of all steps add up to one."""

    step: str
    mean_ms: float
    share: float


class CallNode(Struct, frozen=True):
    """A place in the call tree: a step below another, all runs of it together."""

    name: str
    count: int
    total_ms: float
    self_ms: float
    children: tuple["CallNode", ...]


class ProfileData(Struct, frozen=True):
    """All that was found out.

    Attributes:
        calls: profiled calls that have ended.
        response_time: by profiled function.
        step_timings: by step; the order is that of their total, largest first.
        bottleneck: the step that explains the p95, None where none stands out.
        reason: why there is that bottleneck, or none.
        critical_path: what calls waited for, over a sample of them; adds up to their wall time.
        tail: shares in the slow calls, which add up to 100 %.
        waits: shares of the critical path by what steps say they wait for.
        tree: how steps nest, over the same sample.
        slowest: the slowest calls, whole.
        sampled, not_kept, late: calls in the sample, steps only in the sums, steps that outlived their call.
    """

    calls: int
    response_time: Mapping[str, StepTiming]
    step_timings: Mapping[str, StepTiming]
    bottleneck: Bottleneck | None
    reason: str
    critical_path: tuple[CriticalStep, ...]
    tail: tuple[TailShare, ...]
    waits: Mapping[str, float]
    tree: tuple[CallNode, ...]
    slowest: tuple[Trace, ...]
    traces: tuple[Trace, ...]
    sampled: int
    not_kept: int
    late: int

    def __str__(self) -> str:
        from slipstream.profiling.rendering import table

        return table(self)


def profile_data(collection: Collection) -> ProfileData:
    """What a collection holds, worked out."""
    paths = [critical_path(trace.root) for trace in collection.kept]
    vectors = [_own_named(by_name(path), trace) for path, trace in zip(paths, collection.kept, strict=True)]
    found = verdict(vectors)
    timings = sorted(
        ((name, StepTiming(sums)) for name, sums in collection.steps.items()), key=lambda each: -each[1]
    )
    return ProfileData(
        calls=collection.calls,
        response_time={name: StepTiming(sums) for name, sums in collection.roots.items()},
        step_timings=dict(timings),
        bottleneck=_bottleneck(found),
        reason=found.reason,
        critical_path=_critical_steps(vectors),
        tail=tuple(tail_shares(vectors)),
        waits=_shares([by_kind(path) for path in paths]),
        tree=_tree([trace.root for trace in collection.kept]),
        slowest=tuple(collection.slowest),
        traces=tuple(collection.kept),
        sampled=len(collection.kept),
        not_kept=collection.not_kept,
        late=collection.late,
    )


def _bottleneck(found: Verdict) -> Bottleneck | None:
    return Bottleneck(found.step, found.reason, found.share) if found.step is not None else None


def _own_named(path: dict[str, int], trace: Trace) -> dict[str, float]:
    """Milliseconds by step; what the profiled function does outside of its steps has a name of its own."""
    root = trace.root
    named = {name: duration_ns / MS for name, duration_ns in path.items()}
    if root.children and root.name in named:
        named[root.name + OWN] = named.pop(root.name)
    return named


def _critical_steps(vectors: list[dict[str, float]]) -> tuple[CriticalStep, ...]:
    sums: dict[str, float] = {}
    for vector in vectors:
        for name, duration in vector.items():
            sums[name] = sums.get(name, 0.0) + duration
    whole = sum(sums.values()) or 1.0
    ranked = sorted(sums.items(), key=lambda each: -each[1])
    return tuple(CriticalStep(name, total / len(vectors), total / whole) for name, total in ranked)


def _shares(paths: list[dict[str, int]]) -> dict[str, float]:
    sums: dict[str, int] = {}
    for path in paths:
        for kind, duration_ns in path.items():
            sums[kind or "not said"] = sums.get(kind or "not said", 0) + duration_ns
    whole = sum(sums.values()) or 1
    return {kind: total / whole for kind, total in sorted(sums.items(), key=lambda each: -each[1])}


def _tree(spans: list[Span]) -> tuple[CallNode, ...]:
    """Spans of one level, those of one name together. As deep as a trace may be."""
    named: dict[str, list[Span]] = {}
    for span in spans:
        named.setdefault(span.name, []).append(span)
    nodes = [
        CallNode(
            name,
            len(group),
            sum(span.duration_ns for span in group) / MS,
            sum(own_time_ns(span) for span in group) / MS,
            _tree([child for span in group for child in span.children]),
        )
        for name, group in named.items()
    ]
    return tuple(sorted(nodes, key=lambda node: -node.total_ms))
