"""When an upstream turns requests away: too many at once, too many a second, or by chance. Pure.

Fitted from what was recorded of each attempt, and asked by the replay. A bound is believed where it explains
twice as many of the attempts as saying always the same would; else a refusal is a matter of chance.
"""

import bisect
import random
import statistics
from collections.abc import Sequence

from msgspec import Struct

from slipstream.core.record import Record
from slipstream.doctor.times import visits

POOL_CODES = frozenset({"pool_exhausted", "pool_timeout"})
"""What those are told who found no connection, or waited too long for one."""

OURS = POOL_CODES | {"total_timeout", "answer_too_large"}
"""Failures at a bound of ours say nothing about an upstream."""

SECOND_NS = 1_000_000_000
CANDIDATES = 64


class Failure(Struct, frozen=True):
    """One attempt that failed, when it began and how long it took (ns)."""

    upstream: str
    why: str
    wall_ns: int
    took_ns: int


class Refusing(Struct, frozen=True):
    """How an upstream refuses. One of `together` and `per_second` at most; else `chance` decides.

    Attributes:
        chance: share of its attempts that failed.
        together: it serves so many at once.
        per_second: it serves so many within any second.
        seconds: how long a refusal takes.
        status: what it answers; 0 where it breaks the connection instead.
    """

    chance: float = 0.0
    together: int | None = None
    per_second: int | None = None
    seconds: float = 0.0
    status: int = 500

    def refuses(self, together: int, last_second: int, chance: random.Random) -> bool:
        """Whether it turns away a request that finds so many there, after so many in the last second."""
        if self.together is not None:
            return together >= self.together
        if self.per_second is not None:
            return last_second >= self.per_second
        return self.chance > 0 and chance.random() < self.chance


NEVER = Refusing()


def failures_of(record: Record) -> list[Failure]:
    """The failed attempts of a request that are an upstream's doing."""
    opens = [step for step in record.steps if step.name == "open"]
    found = []
    for at, said in enumerate(filter(None, record.failures.split(";"))):
        upstream, _, why = said.rpartition(" ")
        if why in OURS:
            continue
        step = opens[at] if at < len(opens) else None
        start = record.arrived_wall_ns + (step.start_ns if step else 0)
        found.append(Failure(upstream, why, start, step.duration_ns if step else 0))
    return found


def refusing(records: Sequence[Record], upstream: str) -> Refusing:
    """How an upstream refuses, by these records in order of arrival."""
    failures = [each for record in records for each in failures_of(record) if each.upstream == upstream]
    if not failures:
        return NEVER
    served = [
        each
        for each in visits(records)
        if each.upstream == upstream and records[each.index].outcome == "served"
    ]
    chance = len(failures) / (len(failures) + len(served))
    statuses = [int(each.why) for each in failures if each.why.isdecimal()]
    seconds = statistics.median(each.took_ns for each in failures) / 1e9
    status = statistics.mode(statuses) if statuses else 0
    plain = Refusing(chance, None, None, seconds, status)
    if len(served) < 20 or len(failures) < 5:
        return plain
    starts = sorted(each.start_ns for each in served)
    ends = sorted(each.end_ns for each in served)

    def there(at: int) -> int:
        return bisect.bisect_left(starts, at) - bisect.bisect_right(ends, at)

    def lately(at: int) -> int:
        return bisect.bisect_left(starts, at) - bisect.bisect_left(starts, at - SECOND_NS)

    refused_at, served_at = [each.wall_ns for each in failures], [each.start_ns for each in served]
    base = min(chance, 1.0 - chance) * (len(failures) + len(served))
    crowd, crowd_wrong = _threshold([there(at) for at in refused_at], [there(at) for at in served_at])
    rate, rate_wrong = _threshold([lately(at) for at in refused_at], [lately(at) for at in served_at])
    if min(crowd_wrong, rate_wrong) > 0.5 * base:
        return plain
    if crowd_wrong <= rate_wrong:
        return Refusing(chance, crowd, None, seconds, status)
    return Refusing(chance, None, rate, seconds, status)


def _threshold(refused: Sequence[int], served: Sequence[int]) -> tuple[int, int]:
    """The bound that errs least when refusing at it and beyond, and how often it errs."""
    refused, served = sorted(refused), sorted(served)
    values = sorted({*refused, *(each + 1 for each in served[-1:])})
    step = max(1, len(values) // CANDIDATES)
    best = (max(1, values[0]), len(refused) + len(served))
    for bound in values[::step]:
        wrong = bisect.bisect_left(refused, bound) + len(served) - bisect.bisect_left(served, bound)
        if bound >= 1 and wrong < best[1]:
            best = bound, wrong
    return best
