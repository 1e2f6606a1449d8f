"""What is known of one endpoint (an upstream, for one of its models), and every request that is at it.

A request that is sent to it is a `Visit`: an entry in its register from `begin` to `leave`, so nothing
can be counted that is not there. Synchronous, told the time; ignorant of what an endpoint is.
"""

import hashlib
import random
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

import msgspec

from slipstream.core.breaker import RULES, Breaker, BreakerRules
from slipstream.core.pace import Pace

T = TypeVar("T")

Condition = Literal["closed", "open", "half_open", "ejected", "held"]


class EndpointSnapshot(msgspec.Struct, frozen=True):
    """An endpoint as it is now, for a status page. Times in the units of their names."""

    upstream: str
    model: str
    state: Condition
    """closed = it takes requests; open = it failed; ejected = far worse than its peers;
    half_open = one request tries it; held = it asked us to come back later."""
    why: str
    """What its state is due to; empty where it is closed."""
    seconds_left: float
    """Until it is tried again, as far as that is known."""
    in_flight: int
    requests: int
    """In the last 10 s."""
    failures: int
    ttft_ms: float | None
    """Estimated time to the first byte of a stream, else of a whole answer."""
    weight: float
    caches_prompts: bool
    trips: int
    """How often it was taken out since the start."""


class Endpoint(Generic[T]):
    """One endpoint. `what` is the caller's own: whatever has to be talked to."""

    __slots__ = (
        "breaker",
        "caches_prompts",
        "held_until_ns",
        "held_why",
        "label",
        "model",
        "paces",
        "seed",
        "visits",
        "weight",
        "what",
    )

    def __init__(
        self,
        what: T,
        label: str,
        model: str,
        *,
        rules: BreakerRules = RULES,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.what = what
        self.label = label
        self.model = model
        self.weight = 1.0
        self.caches_prompts = False
        self.breaker = Breaker(rules, chance=chance)
        self.held_until_ns = 0
        self.held_why = ""
        self.paces = (Pace(), Pace())
        """Of whole answers, and of streams: the one begins when the other ends."""
        self.seed = int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest(), "little")
        self.visits: set[Visit[T]] = set()

    @property
    def in_flight(self) -> int:
        """How many requests are at it."""
        return len(self.visits)

    def unanswered(self, since_ns: int) -> int:
        """How many of the requests that began since then are not judged yet."""
        return sum([not visit.is_judged and visit.started_ns >= since_ns for visit in self.visits])

    def is_free(self, now_ns: int) -> bool:
        """Whether it takes requests."""
        return self.breaker.is_closed and now_ns >= self.held_until_ns

    def may_probe(self, now_ns: int, *, is_last: bool = False) -> bool:
        """Whether one request may see how it is by now. `is_last`: nobody else is left."""
        return self.breaker.may_probe(now_ns, is_last=is_last) and now_ns >= self.held_until_ns

    def ready_ns(self, now_ns: int) -> int | None:
        """When it may take a request while nobody else does; None = when its probe is over."""
        if self.breaker.is_closed:
            return max(now_ns, self.held_until_ns)
        if self.breaker.probe is not None:
            return None
        return max(now_ns, self.held_until_ns, self.breaker.soon_ns)

    def hold(self, now_ns: int, seconds: float, why: str) -> None:
        """It asked not to be asked for so long."""
        self.held_until_ns = max(self.held_until_ns, now_ns + int(seconds * 1e9))
        self.held_why = why

    def condition(self, now_ns: int) -> tuple[Condition, str, float]:
        """Its state, what that is due to, and the seconds until it is tried again."""
        breaker = self.breaker
        if not breaker.is_closed:
            left = max(0.0, (max(breaker.until_ns, self.held_until_ns) - now_ns) / 1e9)
            state: Condition = "half_open" if now_ns >= breaker.until_ns else "open"
            return ("ejected" if breaker.is_ejected and state == "open" else state), breaker.why, left
        if now_ns < self.held_until_ns:
            return "held", self.held_why, (self.held_until_ns - now_ns) / 1e9
        return "closed", "", 0.0

    def snapshot(self, now_ns: int) -> EndpointSnapshot:
        """All that a status page shows."""
        state, why, left = self.condition(now_ns)
        requests, failures = self.breaker.counts(now_ns)
        estimate = self.paces[True].estimate_ns or self.paces[False].estimate_ns
        return EndpointSnapshot(
            upstream=self.label,
            model=self.model,
            state=state,
            why=why,
            seconds_left=left,
            in_flight=len(self.visits),
            requests=requests,
            failures=failures,
            ttft_ms=estimate / 1e6 if estimate else None,
            weight=self.weight,
            caches_prompts=self.caches_prompts,
            trips=self.breaker.trips,
        )


class Visit(Generic[T]):
    """One request at one endpoint. Judged once (or never, when its client left), and left once.

    Whoever makes one owes it a `leave`. At an endpoint that is not closed it is the probe.

    Args:
        endpoint: where it goes.
        pace: which of the endpoint's paces it is measured by.
        now_ns: when it begins.
        limit_ns: a probe that is not answered within it has failed; 0 = no limit of its own.
    """

    __slots__ = ("_epoch", "_verdict", "endpoint", "is_probe", "limit_ns", "pace", "started_ns")

    def __init__(self, endpoint: Endpoint[T], pace: Pace, now_ns: int, limit_ns: int = 0) -> None:
        breaker = endpoint.breaker
        self.endpoint = endpoint
        self.started_ns = now_ns
        self.pace = pace
        self.limit_ns = limit_ns
        self.is_probe = not breaker.is_closed
        self._verdict = ""
        if self.is_probe:
            assert breaker.probe is None
            breaker.probe = self
        self._epoch = breaker.epoch
        endpoint.visits.add(self)

    @property
    def is_judged(self) -> bool:
        """Whether it has said what it has to say."""
        return bool(self._verdict)

    def answer(self, now_ns: int) -> None:
        """Its first byte has come, and it is no error."""
        took_ns = now_ns - self.started_ns
        self._verdict = "answered"
        self.pace.see(took_ns, now_ns)
        breaker = self.endpoint.breaker
        if breaker.epoch != self._epoch:
            return
        if self.is_probe:
            breaker.settle(now_ns, self, "still slow" if 0 < self.limit_ns < took_ns else "")
            if breaker.is_closed:  # should it break later, that counts
                self._epoch = breaker.epoch
        else:
            breaker.succeed(now_ns)

    def excuse(self, now_ns: int) -> None:
        """It was answered with the client's own mistake: the endpoint lives, and that is all it says."""
        self._verdict = "excused"
        if self.is_probe:
            self.endpoint.breaker.settle(now_ns, self, "")

    def hold(self, now_ns: int, seconds: float, why: str) -> None:
        """It was told to come back later, and so is everybody else; no verdict on a breaker."""
        self._verdict = "held"
        self.endpoint.hold(now_ns, seconds, why)

    def fail(self, now_ns: int, why: str, *, is_silent: bool = False) -> None:
        """It failed, or broke after it had been answered. Silent: for want of an answer in time."""
        breaker = self.endpoint.breaker
        before, self._verdict = self._verdict, "failed"
        if breaker.epoch != self._epoch or before == "failed":
            return
        if breaker.probe is self:
            breaker.settle(now_ns, self, why)
        elif before == "answered":
            breaker.fail_late(now_ns, why)
        else:
            breaker.fail(now_ns, why, unanswered=None if is_silent else self.endpoint.unanswered)

    def fail_silent(self, now_ns: int, why: str) -> None:
        """Its first byte did not come in time."""
        self.pace.see_at_least(now_ns - self.started_ns, now_ns)
        self.fail(now_ns, why, is_silent=True)

    def leave(self, now_ns: int) -> None:
        """It is over, however it ended; may be called twice."""
        visits = self.endpoint.visits
        if self not in visits:
            return
        visits.remove(self)
        if not self._verdict and self.pace.estimate_ns:  # its client left: it would have taken longer
            self.pace.see_at_least(now_ns - self.started_ns, now_ns)
        if self.is_probe:
            self.endpoint.breaker.let_go(self)
