"""What a profiler found out, to be read and printed. Times are milliseconds."""

from collections.abc import Mapping

from msgspec import Struct

from slipstream.core.steps import Trace
from slipstream.profiling import rendering
from slipstream.profiling.call_tree import CallNode, call_tree
from slipstream.profiling.collection import Collection
from slipstream.profiling.critical_path import by_kind, by_name, critical_path
from slipstream.profiling.step_timing import MS, Bottleneck, StepTiming
from slipstream.profiling.tail import TailShare, Verdict, tail_shares, verdict

OWN = " (own time)"
NOT_SAID = "not said"


class CriticalStep(Struct, frozen=True):
    """A step's part of the critical path; the shares of all steps add up to one."""

    step: str
    mean_ms: float
    share: float


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
        under_way: calls that have not ended.
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
    under_way: int = 0

    def __str__(self) -> str:
        if not self.calls:
            open_ = {0: "", 1: "; 1 call is under way"}.get(
                self.under_way, f"; {self.under_way} calls are under way"
            )
            return f"nothing recorded{open_}"
        tails = {share.step: share.variance for share in self.tail}
        lines = [rendering.call_line(name, timing) for name, timing in self.response_time.items()]
        lines += ["", *rendering.step_table(self.step_timings, tails), ""]
        named = self.bottleneck or "none stands out"
        lines.append(f"Bottleneck: {named}: {self.reason}")
        if self.not_kept or self.late:
            lines.append(f"{self.not_kept} steps are only in the sums; {self.late} outlived their call.")
        if any(node.children for node in self.tree):
            path = [(each.step, each.mean_ms, each.share) for each in self.critical_path]
            lines += ["", *rendering.path_lines(path, self.sampled)]
            if self.waits.keys() - {NOT_SAID}:
                lines.append(rendering.waits_line(self.waits))
            lines += ["", *rendering.tree_lines(self.tree)]
        return "\n".join(lines)


def profile_data(collection: Collection, *, begun: int = 0) -> ProfileData:
    """What a collection holds, worked out; `begun` calls have begun."""
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
        tree=call_tree([trace.root for trace in collection.kept]),
        slowest=tuple(collection.slowest),
        traces=tuple(collection.kept),
        sampled=len(collection.kept),
        not_kept=collection.not_kept,
        late=collection.late,
        under_way=max(0, begun - collection.calls),
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
            said = kind or NOT_SAID
            sums[said] = sums.get(said, 0) + duration_ns
    whole = sum(sums.values()) or 1
    return {kind: total / whole for kind, total in sorted(sums.items(), key=lambda each: -each[1])}
