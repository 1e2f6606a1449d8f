"""How steps nest: the runs of a step below another, all together. Times are milliseconds."""

from collections.abc import Sequence

from msgspec import Struct

from slipstream.core.steps import NO_ROOM, Span
from slipstream.profiling.critical_path import covered_beyond_ns, own_time_ns
from slipstream.profiling.step_timing import MS


class CallNode(Struct, frozen=True):
    """A place in the call tree: a step below another, all runs of it together."""

    name: str
    count: int
    total_ms: float
    self_ms: float
    children: tuple["CallNode", ...]


def call_tree(spans: Sequence[Span]) -> tuple[CallNode, ...]:
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
            (*call_tree([child for span in group for child in span.children]), *_without_room(group)),
        )
        for name, group in named.items()
    ]
    return tuple(sorted(nodes, key=lambda node: -node.total_ms))


def _without_room(group: Sequence[Span]) -> tuple[CallNode, ...]:
    """The steps of these spans of which only the sums are known."""
    count = sum(span.trace.covered[span][0] for span in group if span in span.trace.covered)
    total_ms = sum(map(covered_beyond_ns, group)) / MS
    return (CallNode(NO_ROOM, count, total_ms, total_ms, ()),) if count else ()
