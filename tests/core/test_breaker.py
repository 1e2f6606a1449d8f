"""The circuit breaker, by its book."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slipstream.core.breaker import RULES, Breaker

SECOND = 1_000_000_000


def breaker() -> Breaker:
    return Breaker(chance=lambda: 0.0)


def test_failures_in_a_row_open_it() -> None:
    """Five failures in a row open it; an answer in between starts the count anew."""
    it = breaker()
    for failed in (True,) * 4 + (False,) + (True,) * 4:
        it.fail(0, "reset") if failed else it.succeed(0)
    assert it.state(0) == "closed"

    it.fail(0, "reset")

    assert it.state(0) == "open"
    assert it.why == "reset"


@pytest.mark.parametrize(("failures", "state"), [(6, "closed"), (7, "open")])
def test_an_error_rate_opens_it(failures: int, state: str) -> None:
    """Seven of ten requests in ten seconds open it; six may be chance where half of them fail."""
    it = breaker()
    fails = [True, True, False] * 3 + [True] if failures == 7 else [True, False] * 2 + [True, True, False] * 2
    for number, failed in enumerate(fails):
        it.fail(number * SECOND, "reset") if failed else it.succeed(number * SECOND)

    assert it.counts(9 * SECOND) == (10, failures)
    assert it.state(9 * SECOND) == state


def test_old_failures_do_not_count() -> None:
    """What is more than ten seconds old makes no rate."""
    it = breaker()
    for _ in range(4):
        it.fail(0, "reset")
    it.succeed(0)
    for _ in range(8):
        it.succeed(12 * SECOND)
    it.fail(12 * SECOND, "reset")

    assert it.is_closed
    assert it.counts(12 * SECOND) == (9, 1)


def test_an_answer_that_breaks_counts_as_a_failure_instead() -> None:
    """A late failure is no further request."""
    it = breaker()
    it.succeed(0)
    it.succeed(0)
    it.fail_late(SECOND, "broke")

    assert it.counts(SECOND) == (2, 1)


def test_it_stays_open_longer_each_time_and_not_for_ever() -> None:
    """5 s, 10 s, 20 s, then 30 s however often; after a calm minute 5 s again."""
    it, now, lengths = breaker(), 0, []
    for _ in range(6):
        it.trip(now, "reset")
        lengths.append((it.until_ns - now) / SECOND)
        now = it.until_ns
        it.probe = probe = object()
        it.settle(now, probe, "")
    assert lengths == [5, 10, 20, 30, 30, 30]

    now += 61 * SECOND
    it.trip(now, "reset")

    assert (it.until_ns - now) / SECOND == 5


@given(st.floats(0, 1, exclude_max=True))
def test_open_times_are_spread(chance: float) -> None:
    """Not every worker probes at the same moment: up to a tenth of the time is left out."""
    it = Breaker(chance=lambda: chance)
    it.trip(0, "reset")

    assert 4.5 * SECOND <= it.until_ns <= 5 * SECOND


class Book(RuleBasedStateMachine):
    """Any order of events: what is let through agrees with the state, and one probe at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.it = breaker()
        self.now = 0
        self.probes: list[object] = []

    @rule(gap=st.integers(0, 20 * SECOND))
    def time_passes(self, gap: int) -> None:
        self.now += gap

    @precondition(lambda self: self.it.is_closed)
    @rule(fails=st.booleans(), late=st.booleans())
    def a_request_ends(self, fails: bool, late: bool) -> None:
        if not fails:
            self.it.succeed(self.now)
        elif late:
            self.it.fail_late(self.now, "broke")
        else:
            self.it.fail(self.now, "reset")

    @precondition(lambda self: self.it.is_closed)
    @rule()
    def it_is_ejected(self) -> None:
        self.it.trip(self.now, "slow", is_ejection=True)
        assert self.it.is_ejected

    @precondition(lambda self: self.it.may_probe(self.now))
    @rule()
    def a_probe_begins(self) -> None:
        assert self.it.state(self.now) == "half_open"
        self.it.probe = object()
        self.probes.append(self.it.probe)

    @precondition(lambda self: self.probes)
    @rule(data=st.data(), why=st.sampled_from(["", "reset"]))
    def a_probe_is_judged(self, data: st.DataObject, why: str) -> None:
        probe = data.draw(st.sampled_from(self.probes))
        is_current, epoch = self.it.probe is probe, self.it.epoch
        self.it.settle(self.now, probe, why)
        assert (self.it.epoch != epoch) == is_current
        if is_current:
            assert self.it.is_closed == (not why)

    @precondition(lambda self: self.probes)
    @rule(data=st.data())
    def a_probe_is_left(self, data: st.DataObject) -> None:
        self.it.let_go(data.draw(st.sampled_from(self.probes)))

    @invariant()
    def it_agrees_with_itself(self) -> None:
        it = self.it
        assert it.is_closed == (it.state(self.now) == "closed")
        assert not (it.may_probe(self.now) and it.probe is not None)
        assert not (it.is_closed and (it.is_ejected or it.probe is not None))
        assert it.until_ns - self.now <= RULES.open_seconds_max * SECOND
        requests, failures = it.counts(self.now)
        assert 0 <= failures <= requests


TestBook = Book.TestCase
TestBook.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("why", ["", "reset"])
def test_only_the_probe_is_heard(why: str) -> None:
    """Whoever is not the probe of the moment changes nothing."""
    it = breaker()
    it.trip(0, "reset")
    it.probe = object()
    it.settle(6 * SECOND, object(), why)

    assert it.state(6 * SECOND) == "half_open"
