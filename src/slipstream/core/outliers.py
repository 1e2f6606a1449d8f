"""Which of several endpoints for one model is far worse than its peers: a comparison, no verdict on anybody
alone. Pure.
"""

import math
import statistics
from collections.abc import Sequence
from typing import TypeVar

from msgspec import Struct

from slipstream.core.health import Endpoint

T = TypeVar("T")

REQUESTS_MIN = 10
"""Fewer in the window make no error rate."""

RATE_NS = 10_000_000_000
ERROR_RATE_MIN = 0.2
SIGMAS = 3.0
"""How far beyond its peers' error rate, in standard deviations of so many requests."""

SLOW_FACTOR = 4.0
SLOW_NS_MIN = 50_000_000
"""Below this difference to its peers nobody is slow: tens of milliseconds are the network's."""


class Outlier(Struct, frozen=True):
    """One that is worse than its peers: by how much (for choosing the worst), and a word on why."""

    severity: float
    why: str


def judge(one: Endpoint[T], peers: Sequence[Endpoint[T]], now_ns: int) -> Outlier | None:
    """What is wrong with `one` in comparison to `peers`; None where nothing is, or nothing is known."""
    return _failing(one, peers, now_ns) or _slow(one, peers, now_ns)


def _failing(one: Endpoint[T], peers: Sequence[Endpoint[T]], now_ns: int) -> Outlier | None:
    requests, failures = one.breaker.counts(now_ns)
    if failures:  # they come at once, answers take their time: those under way count as answered
        requests += one.unanswered(now_ns - RATE_NS)
    if requests < REQUESTS_MIN or failures < ERROR_RATE_MIN * requests:
        return None
    rates = [
        failed / asked
        for asked, failed in (peer.breaker.counts(now_ns) for peer in peers)
        if asked >= REQUESTS_MIN
    ]
    if not rates:
        return None
    usual = max(0.01, statistics.median(rates))
    expected = requests * usual
    if failures <= expected + SIGMAS * math.sqrt(expected * (1.0 - usual)):
        return None
    rate = failures / requests
    return Outlier(1000.0 * rate, f"failed {rate:.0%} of {requests} requests")


def _slow(one: Endpoint[T], peers: Sequence[Endpoint[T]], now_ns: int) -> Outlier | None:
    for kind in (True, False):
        own = one.paces[kind].median_ns(now_ns)
        others = [m for m in (peer.paces[kind].median_ns(now_ns) for peer in peers) if m is not None]
        if own is None or not others:
            continue
        usual = statistics.median(others)
        if own > SLOW_FACTOR * usual and own - usual > SLOW_NS_MIN:
            return Outlier(
                own / max(usual, 1.0), f"first byte after {own / 1e9:.2g} s, peers {usual / 1e9:.2g} s"
            )
    return None


def worst(endpoints: Sequence[Endpoint[T]], now_ns: int) -> tuple[Endpoint[T], Outlier] | None:
    """The one to eject, if any; never one more than leaves at least half of them in use.

    Those that are out for another reason count as out.
    """
    free = [endpoint for endpoint in endpoints if endpoint.is_free(now_ns)]
    if 2 * (len(endpoints) - len(free) + 1) > len(endpoints):
        return None
    found: tuple[Endpoint[T], Outlier] | None = None
    for one in free:
        outlier = judge(one, [peer for peer in free if peer is not one], now_ns)
        if outlier is not None and (found is None or outlier.severity > found[1].severity):
            found = one, outlier
    return found
