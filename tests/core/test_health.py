"""The register of visits, and what each kind of end says about its endpoint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.health import Endpoint, Visit

SECOND = 1_000_000_000


def endpoint() -> Endpoint[str]:
    return Endpoint("x", "up", "m", chance=lambda: 0.0)


def visit(at: Endpoint[str], now: int = 0) -> Visit[str]:
    return Visit(at, at.paces[False], now)


ENDS = st.lists(st.sampled_from(["answer", "fail", "silent", "excuse", "hold", "leave"]), max_size=5)


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), ENDS), max_size=60))
def test_every_visit_that_is_left_is_gone(history: list[tuple[int, list[str]]]) -> None:
    """However visits end, in whatever order they are judged: left twice or once, none stays, no probe either."""
    at, now = endpoint(), 0
    for gap, ends in history:
        now += gap
        if not (at.is_free(now) or at.may_probe(now)):
            continue
        one = visit(at, now)
        assert at.in_flight == 1
        for end in ends:
            now += 1
            match end:
                case "answer":
                    one.answer(now)
                case "fail":
                    one.fail(now, "reset")
                case "silent":
                    one.fail_silent(now, "silent")
                case "excuse":
                    one.excuse(now)
                case "hold":
                    one.hold(now, 0.5, "later")
                case "leave":
                    one.leave(now)
        one.leave(now)
        one.leave(now)
        assert at.in_flight == 0
        assert at.breaker.probe is None


def test_the_clients_own_mistakes_do_not_count() -> None:
    """A hundred 4xx, and a hundred clients that left: no failure."""
    at = endpoint()
    for number in range(100):
        one = visit(at)
        if number % 2:
            one.excuse(0)
        one.leave(0)

    assert at.is_free(0)
    assert at.breaker.counts(0) == (0, 0)


def test_a_mistake_shows_that_the_endpoint_lives() -> None:
    """A probe that is answered with a 4xx closes the breaker."""
    at = endpoint()
    at.breaker.trip(0, "reset")
    probe = visit(at, 6 * SECOND)
    probe.excuse(6 * SECOND)

    assert at.is_free(6 * SECOND)


def test_a_probe_whose_client_left_says_nothing() -> None:
    """The next request probes."""
    at = endpoint()
    at.breaker.trip(0, "reset")
    visit(at, 6 * SECOND).leave(7 * SECOND)

    assert not at.is_free(7 * SECOND)
    assert at.may_probe(7 * SECOND)


def test_what_began_before_it_opened_says_nothing_after() -> None:
    """Late failures of the old days neither keep it open nor open it again."""
    at = endpoint()
    old = [visit(at) for _ in range(20)]
    at.breaker.trip(SECOND, "reset")
    for one in old[:10]:
        one.fail(2 * SECOND, "reset")
    probe = visit(at, 6 * SECOND)
    probe.answer(6 * SECOND)
    for one in old[10:]:
        one.fail(7 * SECOND, "reset")

    assert at.is_free(7 * SECOND)
    assert at.breaker.trips == 1


def test_streams_that_break_open_it() -> None:
    """Answered at first, broken later: as good as failed."""
    at = endpoint()
    for _ in range(10):
        one = visit(at)
        one.answer(1)
        one.fail(2, "broke")
        one.fail(2, "broke")
        one.leave(2)

    assert not at.is_free(2)


def test_a_hold_is_the_longest_that_was_asked_for() -> None:
    """A later, shorter wish does not shorten it; then it is free again without a probe."""
    at = endpoint()
    one = visit(at)
    one.hold(0, 10.0, "answered 429")
    one.hold(SECOND, 1.0, "answered 429")
    one.leave(SECOND)

    assert at.condition(SECOND) == ("held", "answered 429", 9.0)
    assert at.ready_ns(SECOND) == 10 * SECOND
    assert at.is_free(10 * SECOND)
    assert at.breaker.counts(SECOND) == (0, 0)


def test_who_leaves_early_says_that_it_was_slow() -> None:
    """A client that left after ten times the usual wait raises the estimate; one that left at once does not."""
    at = endpoint()
    first = visit(at)
    first.answer(100)
    first.leave(100)
    visit(at, 100).leave(110)
    assert at.paces[False].estimate_ns == 100

    visit(at, 200).leave(1200)

    assert at.paces[False].estimate_ns == pytest.approx(550)


def test_a_snapshot_tells_all() -> None:
    """State, reason, time left, load, counts."""
    at = endpoint()
    one = visit(at)
    one.answer(50_000_000)
    at.breaker.trip(SECOND, "connect_failed")
    seen = at.snapshot(2 * SECOND)

    assert (seen.upstream, seen.model, seen.state, seen.why) == ("up", "m", "open", "connect_failed")
    assert (seen.seconds_left, seen.in_flight, seen.requests, seen.failures) == (4.0, 1, 1, 0)
    assert (seen.ttft_ms, seen.trips) == (50.0, 1)


def test_quick_failures_among_slow_answers_do_not_open_it() -> None:
    """A third fail at once, the others take their time: as long as they do, they count as answered."""
    at = endpoint()
    slow = [visit(at, 0) for _ in range(30)]
    for number in range(15):
        one = visit(at, number)
        one.fail(number, "reset")
        one.leave(number)
    assert at.is_free(20)

    for one in slow:
        one.fail(20, "reset")

    assert not at.is_free(20)


def test_those_who_wait_from_better_days_do_not_keep_it_closed() -> None:
    """Only what began after the first failure of a run may still save it."""
    at = endpoint()
    old = [visit(at, 0) for _ in range(30)]
    for _ in range(5):
        visit(at, SECOND).fail(SECOND, "reset")

    assert not at.is_free(SECOND)
    assert len(old) == 30


def test_silence_opens_it_whoever_still_waits() -> None:
    """Requests that ran out of time are not outweighed by younger ones, which will too."""
    at = endpoint()
    silent = [visit(at, 0) for _ in range(5)]
    waiting = [visit(at, SECOND) for _ in range(30)]
    for one in silent:
        one.fail_silent(60 * SECOND, "sent nothing in time")

    assert not at.is_free(60 * SECOND)
    assert len(waiting) == 30


def test_with_nobody_else_left_its_open_time_does_not_grow() -> None:
    """Open for 30 s for those who have somebody else to ask, for 5 s where there is nobody."""
    at = endpoint()
    for _ in range(4):
        at.breaker.trip(0, "reset")

    assert not at.may_probe(29 * SECOND)
    assert at.may_probe(5 * SECOND, is_last=True)
    assert not at.may_probe(4 * SECOND, is_last=True)
    assert at.ready_ns(0) == 5 * SECOND
