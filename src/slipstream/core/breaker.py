"""A circuit breaker: lets nobody through to what fails, and tries it again one request at a time.

    closed ──(too many failures, or ejected)──▶ open ──(time over)──▶ half open ──(probe answered)──▶ closed
                                                 ▲                        │
                                                 └──(probe failed: longer)┘

Synchronous and told the time. It does not know what it protects, nor what a failure is.
"""

import math
import random
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from slipstream.core.window import SECOND_NS, Window

Unanswered = Callable[[int], int]
State = Literal["closed", "open", "half_open"]


class BreakerRules(Struct, frozen=True):
    """When it opens, and for how long."""

    window_seconds: int = 10
    requests: int = 10
    """Fewer in the window make no rate."""
    error_rate: float = 0.5
    """Beyond it by a standard deviation of so many requests: chance alone must not close the door to an
    upstream that answers most of the time."""
    consecutive: int = 5
    """So many failures in a row open it whatever the rate."""
    open_seconds: float = 5.0
    """Doubled each time it opens again before `calm_seconds` have passed well, up to `open_seconds_max`."""
    open_seconds_max: float = 30.0
    calm_seconds: float = 60.0
    jitter: float = 0.1
    """Random share of the open time that is left out, so that not every worker probes at the same moment."""


RULES = BreakerRules()


class Breaker:
    """One breaker. Whoever is let through while it is not closed is the probe, and gives it back.

    Attributes:
        is_closed: everybody may pass.
        is_ejected: it was opened for being worse than its peers, not for failing by itself.
        until_ns: when an open one may be probed.
        soon_ns: when it may be probed where nobody else is left: the open time does not grow then.
        why: why it opened last; empty = it never did.
        trips: how often it opened.
        epoch: changes whenever it opens or closes; what was started in another epoch does not count.
        probe: who probes it now.
    """

    __slots__ = (
        "_chance",
        "_closed_ns",
        "_consecutive",
        "_failures",
        "_repeats",
        "_rules",
        "_run_ns",
        "_successes",
        "epoch",
        "is_closed",
        "is_ejected",
        "probe",
        "soon_ns",
        "trips",
        "until_ns",
        "why",
    )

    def __init__(self, rules: BreakerRules = RULES, *, chance: Callable[[], float] = random.random) -> None:
        self._rules = rules
        self._chance = chance
        self._successes = Window(rules.window_seconds)
        self._failures = Window(rules.window_seconds)
        self._consecutive = 0
        self._repeats = 0
        self._closed_ns = 0
        self._run_ns = 0
        self.is_closed = True
        self.is_ejected = False
        self.until_ns = 0
        self.soon_ns = 0
        self.why = ""
        self.trips = 0
        self.epoch = 0
        self.probe: object | None = None

    def state(self, now_ns: int) -> State:
        """Its state by the book; half open from the moment a probe is let through."""
        if self.is_closed:
            return "closed"
        return "open" if now_ns < self.until_ns else "half_open"

    def counts(self, now_ns: int) -> tuple[int, int]:
        """Requests and failures in the window."""
        failures = self._failures.total(now_ns)
        return self._successes.total(now_ns) + failures, failures

    # While it is closed.

    def succeed(self, now_ns: int) -> None:
        """A request that it let through was answered."""
        self._consecutive = 0
        self._successes.add(now_ns)

    def fail(self, now_ns: int, why: str, *, unanswered: Unanswered | None = None) -> None:
        """A request that it let through failed; opens it where that is one too many.

        `unanswered` tells how many that began since a time are not judged yet. Failures come at once and
        answers take their time, so these count as answered; None = do not wait for them.
        """
        rules = self._rules
        if not self._consecutive:
            self._run_ns = now_ns
        self._consecutive += 1
        self._failures.add(now_ns)
        since_ns = max(self._closed_ns, now_ns - rules.window_seconds * SECOND_NS)
        requests, failures = self.counts(now_ns)
        if requests >= rules.requests and unanswered is not None:
            requests += unanswered(since_ns)
        usual = rules.error_rate * requests
        if requests >= rules.requests and failures >= usual + math.sqrt(usual * (1.0 - rules.error_rate)):
            self.trip(now_ns, why)
        elif self._consecutive >= rules.consecutive:
            pending = unanswered(self._run_ns) if unanswered is not None else 0
            if self._consecutive >= rules.error_rate * (self._consecutive + pending):
                self.trip(now_ns, why)

    def fail_late(self, now_ns: int, why: str) -> None:
        """One that had counted as answered broke after all."""
        self._successes.take_back()
        self.fail(now_ns, why)

    # Opening and closing.

    def trip(self, now_ns: int, why: str, *, is_ejection: bool = False) -> None:
        """Open it, longer than the last time unless that was long ago."""
        rules = self._rules
        if self.is_closed and now_ns - self._closed_ns >= rules.calm_seconds * 1e9:
            self._repeats = 0
        seconds = min(rules.open_seconds * 2.0**self._repeats, rules.open_seconds_max)
        self._repeats = min(self._repeats + 1, 30)
        spread = (1.0 - rules.jitter * self._chance()) * 1e9
        self.until_ns = now_ns + int(seconds * spread)
        self.soon_ns = now_ns + int(rules.open_seconds * spread)
        self.is_closed = False
        self.is_ejected = is_ejection
        self.why = why
        self.trips += 1
        self.epoch += 1
        self.probe = None

    def may_probe(self, now_ns: int, *, is_last: bool = False) -> bool:
        """Whether one request may be let through to see how it is. `is_last`: nobody else is left."""
        if self.is_closed or self.probe is not None:
            return False
        return now_ns >= (self.soon_ns if is_last else self.until_ns)

    def recall(self, now_ns: int) -> None:
        """Let an open one be probed now: its peers, by which it was judged, are no better any more."""
        self.until_ns = min(self.until_ns, now_ns)
        self.soon_ns = min(self.soon_ns, now_ns)

    def settle(self, now_ns: int, probe: object, why: str) -> None:
        """The verdict on a probe: closed where `why` is empty, else open again."""
        if self.probe is not probe:
            return
        if why:
            self.trip(now_ns, why, is_ejection=self.is_ejected)
            return
        self.probe = None
        self.is_closed = True
        self.is_ejected = False
        self.epoch += 1
        self._closed_ns = now_ns
        self._consecutive = 0
        self._successes.clear()
        self._failures.clear()

    def let_go(self, probe: object) -> None:
        """A probe ended without a verdict: the next one may try."""
        if self.probe is probe:
            self.probe = None
