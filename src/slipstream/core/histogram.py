"""The one histogram of the product: buckets that grow by 2^(1/32), so that any quantile is within 1.1 %.

The layout is that of OpenTelemetry's exponential histograms of scale 5 and of Prometheus' native
histograms of schema 5, in the unit that those are exported in: every bound is a power of 2^(1/32) of a
second. Exports and roll-ups lose nothing, and merging is adding. It knows no metric.

A value is stored in its finest unit: a time in nanoseconds, anything else in `TINY`ths. The slots:
0 holds zero and less, 1 what is too small, then one for each bucket, the last what is too large.
"""

import math
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from slipstream.core.errors import SlipstreamError

SCALE = 5
"""Buckets of a doubling: 2^SCALE."""
PER_OCTAVE = 1 << SCALE
GAMMA = 2.0 ** (1.0 / PER_OCTAVE)
"""Upper bound of a bucket over its lower one: 1.0219."""
ERROR = (GAMMA - 1.0) / (GAMMA + 1.0)
"""Largest relative error of a quantile within the range: 1.083 %."""
WHOLE = 1e9
"""What a bound lies at exactly: a second in nanoseconds. Its doublings and halvings are bounds as well."""
TINY = WHOLE / 2**20
"""How many of the finest unit make one of what is no time, so that its powers of two are bounds too."""
FIRST_POWER, LAST_POWER = -21, 14
"""The range, as powers of two of a second: 477 ns to 4.6 hours. Of what is no time: 0.5 to 17 billion."""
BUCKETS = (LAST_POWER - FIRST_POWER) * PER_OCTAVE
ZERO, UNDER, FIRST, OVER = 0, 1, 2, BUCKETS + 2
SLOTS = BUCKETS + 3
OFFSET = FIRST_POWER * PER_OCTAVE
"""OpenTelemetry's index of the first bucket; Prometheus counts from one more."""

LEAST, MOST = WHOLE * 2.0**FIRST_POWER, WHOLE * 2.0**LAST_POWER
"""The ends of the range, in the finest unit."""
SHIFT = FIRST - 1 - OFFSET
"""From the rounded logarithm of a value to its slot."""
SORTED_MIN = 256
"""Of so many values on it is cheaper to put them in order."""
_DOUBLE = struct.Struct("<d")
_ceil = math.ceil
_log2 = math.log2


def index(value: float) -> int:
    """The slot of a value. Bounds belong to the bucket below; NaN and what is below zero count as zero."""
    if value > LEAST:
        if value > MOST:
            return OVER
        return _ceil(_log2(value / WHOLE) * PER_OCTAVE) + SHIFT
    return UNDER if value > 0 else ZERO


def indices(values: Iterable[float]) -> list[int]:
    """The slots of many values: `index` of each, for two thirds of its price."""
    return [
        _ceil(_log2(value / WHOLE) * PER_OCTAVE) + SHIFT if LEAST < value <= MOST else index(value)
        for value in values
    ]


def counted(values: list[int]) -> Counter[int]:
    """How many of the values, whole and not negative, fall into each slot: where they are many, they are put
    in order and cut at the slots' bounds, for under half the price of `indices`.
    """
    if len(values) < SORTED_MIN:
        return Counter(indices(values))
    counts: Counter[int] = Counter()
    ordered, start = sorted(values), 0
    while start < len(ordered):
        slot = index(ordered[start])
        top = _tops.get(slot)
        if top is None:
            top = _tops[slot] = _top(slot)
        end = bisect_right(ordered, top, start)
        counts[slot] = end - start
        start = end
    return counts


def _top(slot: int) -> float:
    """The largest whole number of a slot that holds some, as `index` has it, rounding included."""
    if slot == OVER:
        return math.inf
    top = math.floor(bounds(slot)[1])
    while index(top) > slot:
        top -= 1
    while index(top + 1) == slot:
        top += 1
    return top


_tops: dict[int, float] = {}


def bounds(slot: int) -> tuple[float, float]:
    """Lower bound (not in it) and upper bound (in it) of a slot."""
    if slot == ZERO:
        return 0.0, 0.0
    if slot == UNDER:
        return 0.0, LEAST
    if slot == OVER:
        return MOST, math.inf
    power = slot - FIRST + OFFSET
    return WHOLE * 2.0 ** (power / PER_OCTAVE), WHOLE * 2.0 ** ((power + 1) / PER_OCTAVE)


def middle(slot: int) -> float:
    """What stands for every value of a slot: no value of a bucket is further from it than `ERROR`.

    Outside of the range there is no such promise: its end stands for all.
    """
    if FIRST <= slot < OVER:
        low, high = bounds(slot)
        return 2.0 * low * high / (low + high)
    return (0.0, LEAST)[slot] if slot < FIRST else MOST


def quantile(counts: Sequence[float], q: float) -> float | None:
    """The value below which the share `q` of all lies, of the counts of all slots; None of nothing.

    By nearest rank: the smallest value such that at least q·n are no larger (Hyndman and Fan 1996, type 1).
    """
    return _quantile(enumerate(counts), sum(counts), q)


class Sketch(Struct, frozen=True):
    """Some values, as counts of the slots that are not empty. Sketches of equal `scale` can be added.

    Attributes:
        buckets: slot to count, no zeros.
        total: sum of the values, in the finest unit.
        scale: how many of the finest unit make one of the unit that is shown: 10^6 for ns shown as ms.

    Every method speaks in the unit that is shown.
    """

    buckets: dict[int, int]
    total: float
    scale: float = 1.0

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.buckets.values())

    @property
    def sum(self) -> float:
        """Sum of the values; exact, but for what a float rounds."""
        return self.total / self.scale

    @property
    def mean(self) -> float | None:
        """Their mean; None of nothing."""
        return self.sum / self.count if self.buckets else None

    @property
    def low(self) -> float | None:
        """The smallest, within `ERROR`."""
        return self.quantile(0.0)

    @property
    def high(self) -> float | None:
        """The largest, within `ERROR`."""
        return self.quantile(1.0)

    def quantile(self, q: float) -> float | None:
        """The quantile `q` (0..1), by nearest rank, within `ERROR`; None of nothing."""
        found = _quantile(sorted(self.buckets.items()), self.count, q)
        return None if found is None else found / self.scale

    def above(self, value: float) -> int:
        """How many are larger than `value`, give or take those of the bucket that holds it."""
        limit = index(value * self.scale)
        return sum(count for slot, count in self.buckets.items() if slot > limit)

    def __add__(self, other: "Sketch") -> "Sketch":
        return merged((self, other)) or self

    def encode(self) -> bytes:
        """As bytes: the sum, then for each slot the step from the one before and the count (LEB128)."""
        encoded = bytearray(_DOUBLE.pack(self.total))
        last = 0
        for slot, count in sorted(self.buckets.items()):
            _put(encoded, slot - last)
            _put(encoded, count)
            last = slot
        return bytes(encoded)


def merged(sketches: Iterable[Sketch]) -> Sketch | None:
    """All in one, exactly as if their values had been counted together; None of none."""
    buckets: dict[int, int] = {}
    total, scale = 0.0, None
    for each in sketches:
        assert scale in {None, each.scale}, "sketches of different units"
        scale = each.scale
        total += each.total
        for slot, count in each.buckets.items():
            buckets[slot] = buckets.get(slot, 0) + count
    return None if scale is None else Sketch(buckets, total, scale)


def sketch_of(values: Iterable[float], scale: float = 1.0) -> Sketch:
    """The sketch of values in the unit that is shown. What is not finite counts as zero."""
    buckets: dict[int, int] = {}
    total = 0.0
    for value in values:
        raw = value * scale if math.isfinite(value) else 0.0
        slot = index(raw)
        buckets[slot] = buckets.get(slot, 0) + 1
        total += max(raw, 0.0)
    return Sketch(buckets, total, scale)


def decode(encoded: bytes, scale: float = 1.0) -> Sketch:
    """The sketch that `encode` made; raises `SlipstreamError` for bytes that it cannot have made."""
    try:
        (total,) = _DOUBLE.unpack_from(encoded)
        numbers = list(_numbers(encoded[_DOUBLE.size :]))
    except (struct.error, ValueError) as error:
        raise _damaged() from error
    if len(numbers) % 2:
        raise _damaged()
    buckets: dict[int, int] = {}
    slot = 0
    for step, count in zip(numbers[::2], numbers[1::2], strict=True):
        slot += step
        if slot >= SLOTS or not count or slot in buckets:
            raise _damaged()
        buckets[slot] = count
    return Sketch(buckets, total, scale)


def _quantile(counts: Iterable[tuple[int, float]], count: float, q: float) -> float | None:
    assert 0.0 <= q <= 1.0, "a quantile is between 0 and 1"
    if count <= 0:
        return None
    rank = max(1, math.ceil(q * count))
    seen, slot = 0.0, ZERO
    for each, many in counts:
        if many:
            seen += many
            slot = each
            if seen >= rank:
                break
    return middle(slot)


def _put(encoded: bytearray, number: int) -> None:
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)


def _numbers(encoded: bytes) -> Iterable[int]:
    number = shift = 0
    for byte in encoded:
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            raise ValueError("a number that is too long")
        if not byte & 0x80:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("ends within a number")


def _damaged() -> SlipstreamError:
    return SlipstreamError("A stored sketch cannot be read.", code="sketch_damaged")


def densely(buckets: Mapping[int, float]) -> list[float]:
    """The counts of all slots."""
    counts = [0.0] * SLOTS
    for slot, count in buckets.items():
        counts[slot] = count
    return counts
