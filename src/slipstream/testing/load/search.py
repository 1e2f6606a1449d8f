"""Which number of users to try next on the way to a limit: doubling, the scalability law, bisection.

Pure: it is given what the probes so far came to, and says where to probe. It runs nothing.
"""

import math
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from slipstream.testing.load.stats import Z95, proportion
from slipstream.testing.load.usl import Fit, fit

Verdict = Literal["good", "bad", "undecided"]


class Probe(Struct, frozen=True, kw_only=True):
    """What a number of users came to."""

    users: int
    good: int
    """Requests that kept every objective."""
    count: int
    errors: int
    throughput: float
    goodput: float
    service_ms_mean: float | None = None
    response_ms_p50: float | None = None
    response_ms_p95: float | None = None
    verdict: Verdict = "undecided"
    rounds: int = 1
    disturbed: bool = False
    """Whether it was bad at first and good when it was repeated."""
    error_kinds: dict[str, int] = {}
    cpu_share: float | None = None
    """Of this machine while it ran, 0..1, where the target is on it."""
    busiest_cores: float | None = None
    """Cores that the target's busiest process used, where that can be seen."""
    invalid: tuple[str, ...] = ()
    """Why the client was the bottleneck, where it was."""

    @property
    def passes(self) -> bool:
        """Whether it counts as good: decided so, or by its point estimate where it is at the edge."""
        return self.verdict == "good"

    @property
    def error_percent(self) -> float:
        """Percent of requests without an answer."""
        return 100 * self.errors / self.count if self.count else 0.0


def decide(good: int, count: int, wanted: float) -> Verdict:
    """Whether a share of good requests is surely above or below `wanted` (Wilson, 95 %)."""
    if count == 0:
        return "undecided"
    found = proportion(good, count, Z95)
    assert found.low is not None
    assert found.high is not None
    if found.low >= wanted:
        return "good"
    return "bad" if found.high < wanted else "undecided"


def settle(good: int, count: int, wanted: float) -> Verdict:
    """The verdict on a probe that has had its time: the point estimate where nothing is sure."""
    sure = decide(good, count, wanted)
    if sure != "undecided":
        return sure
    return "good" if count and good / count >= wanted else "bad"


def bracket(probes: Sequence[Probe]) -> tuple[int, int | None]:
    """The most users that were good below the fewest that were bad; 0 and None where there are none."""
    bad = min((each.users for each in probes if not each.passes), default=None)
    good = max(
        (each.users for each in probes if each.passes and (bad is None or each.users < bad)), default=0
    )
    return good, bad


def next_users(
    probes: Sequence[Probe], *, users_max: int, precision: float, response_ms: float | None
) -> int | None:
    """Where to probe next; None = the limit is known well enough, or lies beyond `users_max`.

    Args:
        probes: all so far.
        users_max: never more users than that.
        precision: width of the bracket around the limit, as a share of it.
        response_ms: bound on the response time, by which the law can say where it will be crossed.
    """
    good, bad = bracket(probes)
    if bad is None:
        return None if good >= users_max else min(users_max, max(1, good * 2))
    if bad - good <= max(1, math.floor(precision * good)):
        return None
    inside = sum(good < each.users < bad for each in probes)
    tried = len(probes) - inside
    guess = crossing(probes, response_ms) if tried % 2 == 0 and response_ms else None
    margin = max(1, round((bad - good) / 8))
    if guess is None:
        return (good + bad) // 2
    return min(max(guess, good + margin), bad - margin) if bad - good > 2 else good + 1


def crossing(probes: Sequence[Probe], response_ms: float | None) -> int | None:
    """The most users whose response time the fitted law puts within a bound (Little: N / X(N))."""
    law = law_of(probes)
    if law is None or response_ms is None:
        return None
    most = max(each.users for each in probes)
    within = [users for users in _steps(most) if users / max(1e-9, law.at(users)) * 1000 <= response_ms]
    return max(within, default=None)


def _steps(most: int) -> range:
    return range(1, most + 1, max(1, most // 1000))


def law_of(probes: Sequence[Probe]) -> Fit | None:
    """The scalability law of the probes' throughputs."""
    known = [each for each in probes if each.throughput > 0]
    return fit([each.users for each in known], [each.throughput for each in known]) if known else None
