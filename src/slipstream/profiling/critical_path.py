"""The critical path of a trace: at each moment the one span that the call was waiting for.

Going back from the end of a span, the child that ended last is what it waited for; before that child
began, the child that had ended last by then, and so on (the method of CRISP, USENIX ATC 2022). What no
child covers is the span's own time. The segments do not overlap and add up to the span's duration.
"""

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from slipstream.core.steps import Overflow, Span, Trace


class Segment(Struct, frozen=True):
    """A stretch of the critical path: `span` itself, and nothing within it, was what took the time."""

    span: Span
    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """How long."""
        return self.end_ns - self.start_ns


def critical_path(root: Span) -> list[Segment]:
    """The segments, latest first; their durations add up to that of `root`, to the nanosecond."""
    segments: list[Segment] = []
    waiting = [(root, root.start_ns, root.end_ns)]
    while waiting:
        span, low_ns, high_ns = waiting.pop()
        at_ns = high_ns
        for child, start_ns, end_ns in _latest_first(span):
            start_ns, end_ns = max(start_ns, low_ns), min(end_ns, at_ns)  # noqa: PLW2901 (as far as it was waited for)
            if start_ns >= end_ns:
                continue  # it ran beside the one that the call waited for
            if end_ns < at_ns:
                segments.append(Segment(span, end_ns, at_ns))
            waiting.append((child, start_ns, end_ns))
            at_ns = start_ns
        if low_ns < at_ns:
            segments.append(Segment(span, low_ns, at_ns))
    return segments


def own_time_ns(span: Span) -> int:
    """The time of a span that nothing within it covers, neither its children nor what found no room."""
    return _uncovered_ns(span) - covered_beyond_ns(span)


def covered_beyond_ns(span: Span) -> int:
    """The time of a span that steps cover which found no room; at most what its children leave."""
    if span not in span.trace.covered:
        return 0
    return min(span.trace.covered[span][1], _uncovered_ns(span))


def _uncovered_ns(span: Span) -> int:
    covered, reached_ns, last_ns = 0, span.start_ns, span.end_ns
    for child in span.children:  # in the order of their beginnings
        start_ns, end_ns = child.start_ns, child.end_ns
        start_ns = max(reached_ns, start_ns)
        end_ns = min(last_ns, end_ns)
        if end_ns > start_ns:
            covered += end_ns - start_ns
            reached_ns = end_ns
    return last_ns - span.start_ns - covered


def by_name(segments: Iterable[Segment]) -> dict[str, int]:
    """Nanoseconds of the critical path by the name of the step."""
    return _sums(segments, lambda each: each.name)


def by_kind(segments: Iterable[Segment]) -> dict[str, int]:
    """The same by what was waited for; a step that does not say inherits nothing and counts as ``."""
    return _sums(segments, lambda each: each.kind)


def _sums(segments: Iterable[Segment], label: Callable[[Span | Overflow], str]) -> dict[str, int]:
    """Nanoseconds by label. Of a span's own time, what steps cover that found no room is those steps'."""
    sums: dict[str, int] = {}
    own: dict[Span, int] = {}
    for segment in segments:
        span = segment.span
        sums[label(span)] = sums.get(label(span), 0) + segment.duration_ns
        if span.trace.covered:
            own[span] = own.get(span, 0) + segment.duration_ns
    for span, own_ns in own.items():
        moved = min(own_ns, covered_beyond_ns(span))
        if moved:
            sums[label(span)] -= moved
            for beyond, part in _parts(span.trace, moved):
                sums[label(beyond)] = sums.get(label(beyond), 0) + part
    return {name: total for name, total in sums.items() if total}


def _parts(trace: Trace, moved: int) -> Iterator[tuple[Overflow, int]]:
    """Time shared out among what found no room, by their own times, to the nanosecond."""
    whole = sum(each.own_ns for each in trace.overflow.values())
    given = reached = 0
    for each in trace.overflow.values():
        reached += each.own_ns
        upto = moved * reached // whole if whole else moved
        yield each, upto - given
        given = upto


Stretch = tuple[Span, int, int]
"""A span, and from when to when of it is meant."""


def _latest_first(span: Span) -> list[Stretch]:
    """What ran within a span, its children and what outlived them, the one that ended last first."""
    found = [(child, child.start_ns, child.end_ns) for child in span.children]
    for child in span.children:
        if child.children:
            found += _outliving(child)
    found.sort(key=lambda each: (each[2], each[1]), reverse=True)
    return found


def _outliving(span: Span) -> list[Stretch]:
    """What began within a span and went on after its end: from then on it is its parent that waits for it."""
    found: list[Stretch] = []
    waiting = [span]
    while waiting:
        above = waiting.pop()
        for child in above.children:
            if child.end_ns > span.end_ns:
                found.append((child, max(child.start_ns, span.end_ns), child.end_ns))
            if child.children:
                waiting.append(child)
    return found
