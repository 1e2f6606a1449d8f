"""Counts over the last seconds, and the budget of retries that is made of them."""

from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.budget import WINDOW_SECONDS, RetryBudget
from slipstream.core.window import Window

SECOND = 1_000_000_000

steps = st.lists(st.tuples(st.integers(0, 3 * SECOND), st.booleans()), max_size=300)


@given(steps, st.integers(1, 12))
def test_a_window_holds_what_happened_in_its_seconds(gaps: list[tuple[int, bool]], length: int) -> None:
    """The total is what was counted in this second and the ones before it, however long nothing was asked."""
    window, now, seen = Window(length), 0, []
    for gap, counts in gaps:
        now += gap
        if counts:
            window.add(now)
            seen.append(now // SECOND)

        assert window.total(now) == sum(second > now // SECOND - length for second in seen)


def test_what_is_taken_back_is_the_youngest() -> None:
    """Taking back never goes below what there is, and takes from the latest second."""
    window = Window(3)
    window.add(0)
    window.add(1 * SECOND)
    window.take_back()

    assert window.total(2 * SECOND) == 1
    assert window.total(3 * SECOND) == 0
    window.take_back()
    assert window.total(3 * SECOND) == 0


@given(steps, st.floats(0, 1), st.integers(0, 5))
def test_retries_never_exceed_their_share_in_any_window(
    gaps: list[tuple[int, bool]], share: float, minimum: int
) -> None:
    """At every grant, the 60 s that end there hold no more retries than the share of their requests allows."""
    budget, now = RetryBudget(share, minimum), 0
    requests: list[int] = []
    grants: list[int] = []
    for gap, is_retry in gaps:
        now += gap
        if not is_retry:
            budget.asked(now)
            requests.append(now)
            continue
        if budget.grant(now):
            grants.append(now)
            since = now - WINDOW_SECONDS * SECOND
            asked = sum(at > since for at in requests)
            assert sum(at > since for at in grants) <= max(minimum, share * asked)

    assert budget.refused == sum(is_retry for _, is_retry in gaps) - len(grants)


def test_a_quiet_server_may_retry() -> None:
    """One request alone may be tried again, up to the minimum in a minute, and again a minute later."""
    budget = RetryBudget(0.1, 3)
    budget.asked(0)

    assert [budget.grant(0) for _ in range(4)] == [True, True, True, False]
    assert budget.grant((WINDOW_SECONDS + 1) * SECOND)


def test_a_budget_of_nothing_grants_nothing() -> None:
    """With neither share nor minimum there are no retries."""
    budget = RetryBudget(0.0, 0)
    for _ in range(100):
        budget.asked(0)

    assert not budget.has_room(0)
    assert not budget.grant(0)
    assert budget.refused == 1
