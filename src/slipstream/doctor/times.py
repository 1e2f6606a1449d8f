"""Where the time of a recorded request went, and how many were at the same upstream. Pure.

The parts of a request add up to its duration, to the nanosecond.
"""

import bisect
import math
from collections.abc import Sequence

from msgspec import Struct

from slipstream.core.record import QUEUE, Record

WAITS = frozenset({"wait", "back_off"})
"""Steps that are spent waiting until an upstream may be asked (again)."""

_OPENING = frozenset({"open", "first_byte"})


class Parts(Struct, frozen=True):
    """The time of one request in nanoseconds; the fields add up to its duration.

    Attributes:
        queue: for a slot or a connection.
        waiting: for an upstream that takes requests, and before it was asked again.
        failed: attempts that failed, their own queueing aside.
        first: the last attempt up to the first byte: the upstream's work.
        rest: from there to the end of the answer.
        gateway: what is left: our own steps and all between them.
    """

    queue: int
    waiting: int
    failed: int
    first: int
    rest: int
    gateway: int

    @property
    def service(self) -> int:
        """What the upstream took."""
        return self.first + self.rest


def parts_of(record: Record) -> Parts:
    """The parts of a closed record's duration."""
    opens = [step for step in record.steps if step.name == "open"]
    last_open = opens[-1] if opens else None
    queue = queue_last = waiting = first = failed = rest = 0
    for step in record.steps:
        is_last = last_open is not None and step.start_ns >= last_open.start_ns
        if step.name == QUEUE:
            queue += step.duration_ns
            queue_last += step.duration_ns if is_last else 0
        elif step.name in WAITS:
            waiting += step.duration_ns
        elif step.name in _OPENING:
            first += step.duration_ns if is_last else 0
            failed += 0 if is_last else step.duration_ns
        elif step.name == "relay":
            rest += step.duration_ns
    first = max(0, first - queue_last)
    failed = max(0, failed - (queue - queue_last))
    if not is_answered(record):
        failed, first = failed + first, 0
    left = record.duration_ns
    taken = []
    for part in (queue, waiting, failed, first, rest):  # steps never overlap; a damaged record might
        taken.append(max(0, min(part, left)))
        left -= taken[-1]
    queue, waiting, failed, first, rest = taken
    return Parts(queue, waiting, failed, first, rest, left)


def gap_of(record: Record) -> tuple[int, int]:
    """The longest stretch that no step covers, on the wall clock: when it began and ended."""
    reached = best_start = best_end = 0
    for start, end in sorted((step.start_ns, step.start_ns + step.duration_ns) for step in record.steps):
        if start - reached > best_end - best_start:
            best_start, best_end = reached, start
        reached = max(reached, end)
    if record.duration_ns - reached > best_end - best_start:
        best_start, best_end = reached, record.duration_ns
    return record.arrived_wall_ns + best_start, record.arrived_wall_ns + best_end


def is_answered(record: Record) -> bool:
    """Whether an upstream began a good answer; its client may have left before the end."""
    return record.first_byte_ns is not None and record.status < 400


class Visit(Struct, frozen=True):
    """The last attempt of a request: its time at an upstream, on the wall clock.

    `together` is how many were there when it came, itself included; `mean_together` over its stay.
    """

    index: int
    upstream: str
    start_ns: int
    end_ns: int
    together: int
    mean_together: float


def visits(records: Sequence[Record]) -> list[Visit]:
    """The visits of all that reached an upstream, in the order of the records."""
    spans = [
        (index, record.upstream, *span) for index, record in enumerate(records) if (span := _span(record))
    ]
    starts: dict[str, list[int]] = {}
    ends: dict[str, list[int]] = {}
    for _, upstream, start, end in spans:
        starts.setdefault(upstream, []).append(start)
        ends.setdefault(upstream, []).append(end)
    for each in (*starts.values(), *ends.values()):
        each.sort()
    found = []
    for index, upstream, start, end in spans:
        at_start = _present(starts[upstream], ends[upstream], start)
        middle = _present(starts[upstream], ends[upstream], (start + end) // 2)
        at_end = _present(starts[upstream], ends[upstream], end - 1)
        mean = (at_start + 2 * middle + at_end) / 4
        found.append(Visit(index, upstream, start, end, max(1, at_start), max(1.0, mean)))
    return found


def _span(record: Record) -> tuple[int, int] | None:
    opens = [step for step in record.steps if step.name == "open"]
    if not opens or not record.upstream:
        return None
    start = opens[-1].start_ns
    queued = sum(step.duration_ns for step in record.steps if step.name == QUEUE and step.start_ns >= start)
    begin = record.arrived_wall_ns + start + queued
    return begin, max(begin + 1, record.arrived_wall_ns + record.duration_ns)


def _present(starts: Sequence[int], ends: Sequence[int], at: int) -> int:
    return bisect.bisect_right(starts, at) - bisect.bisect_right(ends, at)


def quantile(values: Sequence[float], share: float) -> float:
    """The value at that share of the sorted values, between neighbours linearly; 0 without any."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
