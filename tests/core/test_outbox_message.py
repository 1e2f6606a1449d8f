"""When a message is tried, tried again, and given up."""

import hypothesis.strategies as st
from hypothesis import given

from slipstream.core.outbox import LONGEST_PAUSE_NS, Message, again, delivered, failed, is_due

S = 1_000_000_000
DAY = 24 * 3600 * S
FRESH = Message("1", "alert", "ops", "High", b"{}", created_wall_ns=DAY)


def test_fresh_message_is_due() -> None:
    """A message is tried at once, and no more once it has arrived."""
    assert is_due(FRESH, DAY)
    assert not is_due(delivered(FRESH), DAY)


def test_pause_doubles_up_to_ten_minutes() -> None:
    """After each failure the pause is twice as long, and never longer than ten minutes."""
    message, pauses = FRESH, []
    for _ in range(10):
        message = failed(message, "no", DAY, is_final=False, keep_ns=DAY, chance=0.5)
        pauses.append((message.due_wall_ns - DAY) / S)

    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert not is_due(message, DAY)
    assert is_due(message, DAY + 600 * S)


def test_given_up_after_its_time() -> None:
    """After a day, and at once where trying again cannot help, it is a dead letter that can be revived."""
    late = failed(FRESH, "no", 2 * DAY, is_final=False, keep_ns=DAY, chance=0.0)
    final = failed(FRESH, "410 gone", DAY, is_final=True, keep_ns=DAY, chance=0.0)

    assert (late.state, final.state, final.error, final.tries) == ("dead", "dead", "410 gone", 1)
    assert is_due(again(final), DAY)


@given(st.integers(0, 30), st.floats(0, 0.999), st.integers(-10 * DAY, 10 * DAY))
def test_clock_steps_do_not_lose_a_message(tries: int, chance: float, step: int) -> None:
    """However the clock steps, a waiting message is due within twice the longest pause."""
    message = FRESH
    for _ in range(tries + 1):
        message = failed(message, "no", DAY, is_final=False, keep_ns=10**20, chance=chance)
    now = DAY + step

    assert is_due(message, now) or is_due(message, now + 2 * LONGEST_PAUSE_NS)
