"""Which of several endpoints for one model a request goes to. Changes nothing but the breakers of its peers.

Least loaded by the power of two choices (Mitzenmacher 2001): two are drawn, by weight, and the one with less
in flight and the shorter time to first byte takes the request. Where endpoints cache prompts a conversation
stays with one, by rendezvous hashing, as long as that one is not far busier than the others.
"""

import math
import random
import statistics
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from slipstream.core.health import Endpoint, Visit
from slipstream.core.outliers import SLOW_FACTOR, worst

T = TypeVar("T")

NOISE = 1.25
"""Estimates within this factor are equal: then the weights decide, and what is in flight."""

BUSIER = 1.5
BUSIER_SLACK = 4
"""A conversation leaves its endpoint above `BUSIER` times the mean load of the others and this many more."""

SWEEP_NS = 1_000_000_000
"""How often peers are compared."""

PROBE_NS_MIN = 1_000_000_000
"""Shortest time that a probe is given while others are free."""

_MASK = (1 << 64) - 1


class Pick(Struct, Generic[T], frozen=True, eq=False):
    """Where a request goes; `limit_ns` bounds the wait for a probe's first byte, 0 = no bound of its own."""

    endpoint: Endpoint[T]
    limit_ns: int = 0

    def begin(self, now_ns: int, *, streamed: bool) -> Visit[T]:
        """Go there. Nothing may have happened since the pick: call it at once."""
        endpoint = self.endpoint
        return Visit(endpoint, endpoint.paces[streamed], now_ns, self.limit_ns)


class Ask(Struct, frozen=True):
    """What is to be known of a request to choose for it."""

    streamed: bool = False
    conversation: int | None = None
    """The same for all requests of a conversation; None = it does not matter where it goes."""
    may_probe: bool = True
    """Whether it could be tried elsewhere, should it be sent to one that may still be failing."""


ANY = Ask()


class Peers(Generic[T]):
    """All endpoints that serve one model. `chance` gives numbers in [0, 1)."""

    __slots__ = ("_chance", "_sweep_ns", "caches_prompts", "endpoints")

    def __init__(
        self, endpoints: Sequence[Endpoint[T]], *, chance: Callable[[], float] = random.random
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.caches_prompts = len(endpoints) > 1 and any(each.caches_prompts for each in endpoints)
        self._chance = chance
        self._sweep_ns = 0

    def choose(
        self,
        now_ns: int,
        among: Sequence[Endpoint[T]],
        ask: Ask = ANY,
        *,
        tried: Collection[Endpoint[T]] = (),
    ) -> Pick[T] | None:
        """One of `among` (a part of these peers) that was not `tried`; None where none is free."""
        if len(among) == 1:
            only = among[0]
            is_able = only.is_free(now_ns) or only.may_probe(now_ns)
            return Pick(only) if is_able and only not in tried else None
        self._sweep(now_ns)
        free: list[Endpoint[T]] = []
        due: Endpoint[T] | None = None
        for each in among:
            if each.is_free(now_ns):
                if each not in tried:
                    free.append(each)
            elif due is None and each.may_probe(now_ns) and each not in tried:
                due = each
        if due is not None and (ask.may_probe or not free):
            return Pick(due, self._limit_ns(free, ask))
        if not free:
            return self._ejected(now_ns, among, tried)
        if ask.conversation is not None and len(free) > 1:
            return Pick(self._home(free, ask, now_ns))
        return Pick(self._lighter(free, ask, now_ns))

    def _sweep(self, now_ns: int) -> None:
        """Once a second: the worst of the peers is taken out if it is far worse than the others."""
        if now_ns < self._sweep_ns:
            return
        self._sweep_ns = now_ns + SWEEP_NS
        found = worst(self.endpoints, now_ns)
        if found is not None:
            endpoint, outlier = found
            endpoint.breaker.trip(now_ns, outlier.why, is_ejection=True)

    def last_resort(
        self, now_ns: int, among: Sequence[Endpoint[T]], *, tried: Collection[Endpoint[T]] = ()
    ) -> Pick[T] | None:
        """Where `choose` found nobody, here and elsewhere: one whose open time, ungrown, is over."""
        for each in among:
            if each not in tried and each.may_probe(now_ns, is_last=True):
                return Pick(each)
        return None

    def _ejected(
        self, now_ns: int, among: Sequence[Endpoint[T]], tried: Collection[Endpoint[T]]
    ) -> Pick[T] | None:
        """One that was only worse than its peers, now that none of them is left."""
        for each in among:
            breaker = each.breaker
            if breaker.is_ejected and breaker.probe is None and each not in tried:
                breaker.recall(now_ns)
                if each.may_probe(now_ns):
                    return Pick(each)
        return None

    def _limit_ns(self, free: Sequence[Endpoint[T]], ask: Ask) -> int:
        """How long a probe may take while others are free: as long as it takes to be called slow."""
        known = [each.paces[ask.streamed].estimate_ns for each in free]
        usual = [estimate for estimate in known if estimate]
        return max(PROBE_NS_MIN, int(SLOW_FACTOR * statistics.median(usual))) if usual else 0

    def _lighter(self, free: Sequence[Endpoint[T]], ask: Ask, now_ns: int) -> Endpoint[T]:
        """The less loaded of two that are drawn by weight; the first drawn where they are alike.

        One of less weight than the first is looked at only as often as its weight is less: idle, it would
        otherwise get whatever comes while the first has anything to do.
        """
        if len(free) == 1:
            return free[0]
        first = self._draw(free)
        second = self._draw([each for each in free if each is not first])
        if second.weight < first.weight and self._chance() * first.weight >= second.weight:
            return first
        one, other = first.paces[ask.streamed], second.paces[ask.streamed]
        ratio = 1.0
        if one.estimate_ns and other.estimate_ns:
            floor_ns = min(one.estimate_ns, other.estimate_ns)
            ratio = other.faded_ns(now_ns, floor_ns) / one.faded_ns(now_ns, floor_ns)
            if 1.0 / NOISE < ratio < NOISE:
                ratio = 1.0
        load = 1.0 + len(first.visits) / first.weight
        other_load = 1.0 + len(second.visits) / second.weight
        return second if other_load * ratio < load else first

    def _draw(self, free: Sequence[Endpoint[T]]) -> Endpoint[T]:
        if len(free) == 1:
            return free[0]
        place = self._chance() * math.fsum([each.weight for each in free])
        for each in free:
            place -= each.weight
            if place < 0.0:
                return each
        return free[-1]

    def _home(self, free: Sequence[Endpoint[T]], ask: Ask, now_ns: int) -> Endpoint[T]:
        """Where a conversation lives: the first in its own order of endpoints that is not far too busy."""
        assert ask.conversation is not None
        total = sum([len(each.visits) for each in free])
        weights = math.fsum([each.weight for each in free])
        for each in sorted(free, key=lambda e: _affinity(ask.conversation or 0, e), reverse=True):
            if not each.caches_prompts:  # its share of conversations goes anywhere among its like
                return self._lighter([e for e in free if not e.caches_prompts], ask, now_ns)
            others = weights - each.weight
            mean = (total - len(each.visits)) / others if others > 0 else 0.0
            if len(each.visits) <= BUSIER * mean * each.weight + BUSIER_SLACK:
                return each
        return self._lighter(free, ask, now_ns)


def _affinity(conversation: int, endpoint: Endpoint[T]) -> float:
    """Weighted rendezvous hashing: the highest wins, each with a chance by its weight (SplitMix64 mixes)."""
    z = (conversation ^ endpoint.seed) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    z ^= z >> 31
    return -endpoint.weight / math.log(((z >> 12) + 0.5) * 2.0**-52)
