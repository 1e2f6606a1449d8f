"""How fast one endpoint answers: an estimate for choosing, and the latest samples for judging.

The estimate rises quickly and falls slowly (after the peak EWMA of Twitter's Finagle), so that one which
turns slow is avoided at once; unused, it fades, so that it is tried again. Told the time.
"""

import math
import statistics

FADE_NS = 10_000_000_000
"""Time constant of the estimate."""

RISE = 0.5
"""A sample above the estimate moves it at least half-way."""

SAMPLES = 16
SAMPLES_MIN = 8
"""Fewer recent samples have no median that a verdict may rest on."""

RECENT_NS = 30_000_000_000


class Pace:
    """Times to the first byte of one endpoint, for one kind of request."""

    __slots__ = ("_latest", "_place", "estimate_ns", "seen_ns")

    def __init__(self) -> None:
        self.estimate_ns = 0.0
        """0 = nothing is known."""
        self.seen_ns = 0
        self._latest: list[tuple[int, int]] = []
        self._place = 0

    def see(self, took_ns: int, now_ns: int) -> None:
        """An answer began after `took_ns`."""
        if self.estimate_ns:
            weight = math.exp((self.seen_ns - now_ns) / FADE_NS)
            if took_ns > self.estimate_ns and weight > RISE:
                weight = RISE
            self.estimate_ns = took_ns + (self.estimate_ns - took_ns) * weight
        else:
            self.estimate_ns = float(took_ns)
        self.seen_ns = now_ns
        latest = self._latest
        if len(latest) < SAMPLES:
            latest.append((now_ns, took_ns))
        else:
            latest[self._place] = (now_ns, took_ns)
            self._place = (self._place + 1) % SAMPLES

    def see_at_least(self, waited_ns: int, now_ns: int) -> None:
        """Nobody knows how long it would have taken, but longer than this."""
        if waited_ns > self.estimate_ns:
            self.see(waited_ns, now_ns)

    def faded_ns(self, now_ns: int, floor_ns: float) -> float:
        """The estimate as it has faded by now, not below `floor_ns`: what is forgotten is equal, not best."""
        if self.estimate_ns <= floor_ns:
            return self.estimate_ns
        return max(floor_ns, self.estimate_ns * math.exp((self.seen_ns - now_ns) / FADE_NS))

    def median_ns(self, now_ns: int) -> float | None:
        """The median of the latest samples; None while there are too few of them, or they are old."""
        recent = [took for seen, took in self._latest if now_ns - seen <= RECENT_NS]
        return statistics.median(recent) if len(recent) >= SAMPLES_MIN else None
