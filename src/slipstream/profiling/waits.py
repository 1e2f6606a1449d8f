"""What recorded requests waited for: their steps' kinds, and the event loop where somebody else held it.

A step says what it waits for, and cannot know that the loop stood still meanwhile. Where a stretch of a
request's critical path lies within a stall of the process that served it, the part of the stall that other
requests caused, or nobody, is time that the request waited for the loop. Pure data; it knows no clock.
"""

import bisect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

import msgspec
from msgspec import Struct

from slipstream.core.record import QUEUE, Record
from slipstream.core.steps import Span
from slipstream.profiling.critical_path import critical_path
from slipstream.profiling.stalls import WHOLE, Stall

LOOP, POOL, NOT_SAID = "loop", "pool", "not said"


class Held(Struct, frozen=True):
    """A stretch in which the event loop of a process stood still; nanoseconds since 1970.

    Attributes:
        parts: for how much of it each task held the loop, 0..1; the rest was nobody's.
    """

    process: str
    start_ns: int
    end_ns: int
    parts: Mapping[str, float]


def held(process: str, stall: Stall) -> Held:
    """What a stall says of those who waited. A collection of garbage is nobody's, whomever it struck."""
    parts: dict[str, float] = {}
    if stall.kind == "loop" and stall.seconds > 0:
        parts = {each.task: min(1.0, each.seconds / stall.seconds) for each in stall.also}
        share = 1.0 if stall.share >= WHOLE else stall.share  # of the function, which tasks ran in turns
        parts[stall.task] = share / stall.tasks
    return Held(process, stall.wall_ns - round(stall.seconds * 1e9), stall.wall_ns, parts)


def _no_process(_: Record) -> str:
    return ""


class Surroundings:
    """What is known of the server that requests ran in, beside their records.

    Args:
        stretches: when event loops stood still.
        process_of: which process served a request, empty where that is not known.
        pooled: upstreams at which a request queues for a connection, not for a slot of the model.
    """

    def __init__(
        self,
        stretches: Iterable[Held] = (),
        *,
        process_of: Callable[[Record], str] = _no_process,
        pooled: Collection[str] = (),
    ) -> None:
        self.process_of = process_of
        self.pooled = pooled
        self._held: dict[str, list[Held]] = {}
        for each in sorted(stretches, key=attrgetter("start_ns")):
            before = self._held.setdefault(each.process, [])
            start_ns = max(each.start_ns, before[-1].end_ns) if before else each.start_ns
            if (
                start_ns < each.end_ns
            ):  # else it lies within another: a collection in the call that held the loop
                before.append(msgspec.structs.replace(each, start_ns=start_ns))

    def during(self, process: str, start_ns: int, end_ns: int) -> Sequence[Held]:
        """When the loop of a process stood still within that time, in order; stretches do not overlap."""
        known = self._held.get(process, [])
        first = bisect.bisect_right(known, start_ns, key=attrgetter("end_ns"))
        last = bisect.bisect_left(known, end_ns, key=attrgetter("start_ns"))
        return known[first:last]


class Waits:
    """Sums up what requests waited for.

    Args:
        surroundings: what is known of the server.

    Attributes:
        unplaced: requests whose process is not known, so that its stalls are not told from their steps.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self.unplaced = 0
        self._surroundings = surroundings
        self._sums: dict[str, float] = {}

    def add(self, record: Record, root: Span, to_wall_ns: int) -> None:
        """One more request: its record, the trace of it, and what makes the trace's times wall time."""
        process = self._surroundings.process_of(record)
        self.unplaced += not process
        start_ns, end_ns = root.start_ns + to_wall_ns, root.end_ns + to_wall_ns
        stretches = self._surroundings.during(process, start_ns, end_ns)
        sums = self._sums
        for segment in critical_path(root):
            kind = self._kind(segment.span, record)
            from_ns, until_ns = segment.start_ns + to_wall_ns, segment.end_ns + to_wall_ns
            by_loop = sum(_waited(stretches, record.id, from_ns, until_ns))
            if by_loop:
                sums[LOOP] = sums.get(LOOP, 0.0) + by_loop
            sums[kind] = sums.get(kind, 0.0) + segment.duration_ns - by_loop

    def shares(self) -> dict[str, float]:
        """Shares of all time, largest first; they add up to one, where there was any time."""
        whole = sum(self._sums.values())
        ranked = sorted(self._sums.items(), key=lambda each: -each[1])
        return {kind: total / whole for kind, total in ranked if total}

    def _kind(self, span: Span, record: Record) -> str:
        if span.name == QUEUE and record.upstream in self._surroundings.pooled:
            return POOL
        return span.kind or NOT_SAID


def _waited(stretches: Iterable[Held], task: str, start_ns: int, end_ns: int) -> Iterator[float]:
    """Nanoseconds of a stretch for which others held the loop, or nobody did."""
    for each in stretches:
        both_ns = min(end_ns, each.end_ns) - max(start_ns, each.start_ns)
        if both_ns > 0:
            yield both_ns * (1.0 - each.parts.get(task, 0.0))
