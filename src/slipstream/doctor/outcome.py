"""The numbers that a fix is judged by, of requests that were replayed or served, and their spread. Pure.

Requests that got no answer count as if they had taken the longest of all: a setting must not look fast
because it turns people away. Those that were wrong in themselves are no outcome of any setting.
"""

import math
import random
import statistics
from collections.abc import Sequence

from msgspec import Struct

from slipstream.core.record import Record
from slipstream.doctor.times import quantile

LEVEL = 0.9
"""Of the intervals that are told."""

OURS = frozenset({401, 403, 408})
"""What an upstream answers to the gateway's own key, or for want of time: not to what a client asked."""

MENDABLE = frozenset({"context_length_exceeded"})
"""Refusals by the embedded model that a setting of ours would mend."""


class Took(Struct, frozen=True):
    """One request as its client met it: when it came, how long it took, whether it was answered."""

    at: float
    seconds: float
    is_served: bool
    cost: float | None = None
    request: str = ""
    """Its id, where the server told it."""


class Outcome(Struct, frozen=True):
    """What clients meet: seconds, answers a second of the time it all took, and dollars a request.

    `cost` is None where no price is known.
    """

    p50: float
    p95: float
    throughput: float
    failed_share: float
    cost: float | None = None


class Interval(Struct, frozen=True):
    """The middle 90 %."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies within."""
        return self.low <= value <= self.high


def is_clients_fault(record: Record) -> bool:
    """Whether a request was refused for what it was: a mistyped model, a wrong key, a field too many."""
    if record.outcome not in {"refused", "failed"} or not 400 <= record.status < 429:
        return False
    return not record.upstream or (record.status not in OURS and record.error_code not in MENDABLE)


def met(records: Sequence[Record]) -> list[Took | None]:
    """What the client of each record met; None where it left by itself."""
    first = min((record.arrived_wall_ns for record in records), default=0)
    return [
        Took(
            (record.arrived_wall_ns - first) / 1e9,
            record.duration_ns / 1e9,
            record.outcome == "served",
            record.cost,
        )
        if record.outcome != "aborted"
        else None
        for record in records
    ]


def took(records: Sequence[Record]) -> list[Took]:
    """What clients met, in the order of the records.

    Those that left by themselves are left out, and those that had themselves to blame.
    """
    judged = [record for record in records if not is_clients_fault(record)]
    return [each for each in met(judged) if each is not None]


def span_of(requests: Sequence[Took]) -> float:
    """Seconds from the first arrival to the last end."""
    ends = [each.at + each.seconds for each in requests]
    return max(ends, default=0.0) - min((each.at for each in requests), default=0.0)


def outcome(requests: Sequence[Took], *, span: float | None = None) -> Outcome:
    """The numbers of some requests.

    `span` (seconds) is that of the run that they were drawn from: a draw that misses the edges did not take
    less. By default it is their own.
    """
    longest = max((each.seconds for each in requests), default=0.0)
    times = sorted(each.seconds if each.is_served else max(longest, 1e-9) for each in requests)
    served = sum(each.is_served for each in requests)
    costs = [each.cost for each in requests if each.cost is not None]
    span = span_of(requests) if span is None else span
    return Outcome(
        quantile(times, 0.5),
        quantile(times, 0.95),
        served / max(span, 1e-9),
        1.0 - served / max(1, len(requests)),
        statistics.fmean(costs) if costs else None,
    )


def blocks(count: int, length: int, chance: random.Random) -> list[int]:
    """Places of a moving-block bootstrap: neighbours stay together, as requests queue behind each other."""
    places: list[int] = []
    length = max(1, min(length, count))
    while len(places) < count:
        start = chance.randrange(count - length + 1)
        places.extend(range(start, start + length))
    return places[:count]


def block_length(count: int) -> int:
    """How long blocks are: they grow with the cube root of what there is (Künsch 1989), and hold a queue."""
    return max(1, round(2.5 * math.cbrt(count)))


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The middle of some values."""
    finite = [value for value in values if math.isfinite(value)]
    edge = (1.0 - level) / 2.0
    return Interval(quantile(finite, edge), quantile(finite, 1.0 - edge))
