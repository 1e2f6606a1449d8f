"""The state machine of a rule: for, keep, clear, no data, restarts; and what silences cover."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from slipstream.core.alerts import (
    RESOLVED_NS,
    AlertState,
    Answer,
    Phase,
    Rule,
    Silence,
    Terms,
    advance,
    is_silenced,
)

S = 1_000_000_000


def walked(terms: Terms, *said: bool | None, start: AlertState | None = None) -> list[str]:
    """The phases, one look a second."""
    state = start or AlertState()
    phases = []
    for second, fires in enumerate(said):
        state = advance(state, terms, Answer(fires), S, second * S)
        phases.append(state.phase.value)
    return phases


def test_fires_at_once_without_for() -> None:
    """Without `for` the first true look fires, the first false one resolves."""
    assert walked(Terms(), False, True, True, False, True) == [
        "inactive",
        "firing",
        "firing",
        "resolved",
        "firing",
    ]


def test_for_waits() -> None:
    """With `for 2s` it must hold for two seconds after it was first seen, without a break."""
    assert walked(Terms(for_ns=2 * S), True, True, False, True, True, True) == [
        "pending",
        "pending",
        "inactive",
        "pending",
        "pending",
        "firing",
    ]


def test_keep_outlasts() -> None:
    """With `keep 2s` it goes on firing for two seconds after it was first seen over; a relapse begins anew."""
    assert walked(Terms(keep_ns=2 * S), True, False, False, True, False, False, False) == [
        "firing",
        "firing",
        "firing",
        "firing",
        "firing",
        "firing",
        "resolved",
    ]


def test_clear_when_decides_on_the_end() -> None:
    """While it fires, only its own `clear when` ends it."""
    firing = AlertState(phase=Phase.FIRING)

    for clears, phase in ((False, Phase.FIRING), (None, Phase.RESOLVED), (True, Phase.RESOLVED)):
        answer = Answer(fires=False, has_clear=True, clears=clears)
        assert advance(firing, Terms(), answer, S, 0).phase is phase


@pytest.mark.parametrize(
    ("no_data", "phases"),
    [
        ("ok", ["inactive", "firing", "resolved"]),
        ("keep", ["inactive", "firing", "firing"]),
        ("alert", ["firing", "firing", "firing"]),
    ],
)
def test_no_data(no_data: str, phases: list[str]) -> None:
    """No data means what the rule says: all is well, nothing has changed, or an alert."""
    assert walked(Terms(no_data=no_data), None, True, None) == phases


def test_keep_holds_a_pending_rule() -> None:
    """With `no data keep` a pending rule neither ripens nor is dropped."""
    assert walked(Terms(for_ns=2 * S, no_data="keep"), True, True, None, None, True) == [
        "pending",
        "pending",
        "pending",
        "pending",
        "firing",
    ]


def test_resolved_is_shown_for_a_while() -> None:
    """After a quarter of an hour a resolved rule is inactive again, and remembers when it fired."""
    resolved = AlertState(phase=Phase.RESOLVED, started_wall_ns=7)
    almost = advance(resolved, Terms(), Answer(False), RESOLVED_NS - 1, 0)
    after = advance(almost, Terms(), Answer(False), 1, 0)

    assert (almost.phase, after.phase, after.started_wall_ns) == (Phase.RESOLVED, Phase.INACTIVE, 7)


def test_restart_does_not_lose_what_was_watched() -> None:
    """A state that was stored goes on where it was; time that nobody watched counts for nothing."""
    terms = Terms(for_ns=3 * S)
    state = AlertState()
    for second in range(3):
        state = advance(state, terms, Answer(True), S, second * S)
    after_restart = advance(state, terms, Answer(True), 0, 10_000 * S)

    assert state.held_ns == after_restart.held_ns == 2 * S
    assert advance(after_restart, terms, Answer(True), S, 10_001 * S).phase is Phase.FIRING


ANSWERS = st.lists(st.tuples(st.sampled_from([True, False, None]), st.integers(-5, 20)), max_size=60)
TERMS = st.builds(
    Terms, st.integers(0, 30).map(lambda s: s * S), st.integers(0, 30).map(lambda s: s * S),
    st.sampled_from(["ok", "keep", "alert"]),
)  # fmt: skip


@given(TERMS, ANSWERS)
def test_never_fires_before_its_time(terms: Terms, answers: list[tuple[bool | None, int]]) -> None:
    """Whatever is said and however the clock steps: it fires only after `for`, ends only after `keep`."""
    state, ripe, over = AlertState(), 0, 0
    for fires, seconds in answers:
        before, elapsed = state, max(0, seconds) * S
        state = advance(before, terms, Answer(fires), seconds * S, 0)
        is_true = {"ok": False, "keep": None, "alert": True}[terms.no_data] if fires is None else fires
        if is_true is not None:
            ripe = ripe + elapsed if is_true and before.phase is Phase.PENDING else 0
            over = over + elapsed if not is_true and before.phase is Phase.FIRING else 0
        if state.phase is Phase.FIRING and before.phase is not Phase.FIRING:
            assert ripe >= terms.for_ns
        if before.phase is Phase.FIRING and state.phase is not Phase.FIRING:
            assert state.phase is Phase.RESOLVED
            assert over >= terms.keep_ns


RULE = Rule("settings", "High Response Time", "response_time > 5000", "critical")


@pytest.mark.parametrize(
    ("silence", "covers"),
    [
        (Silence("1", "*", 0, 10), True),
        (Silence("1", "High*", 0, 10), True),
        (Silence("1", "high*", 0, 10), False),
        (Silence("1", "*", 0, 5), False),
        (Silence("1", "*", 0, 10, owner="me"), False),
        (Silence("1", "*", 0, 10, owner="settings", severity="critical"), True),
        (Silence("1", "*", 0, 10, severity="warning"), False),
    ],
)
def test_silence(silence: Silence, covers: bool) -> None:
    """A silence covers by name, owner and severity, until it expires."""
    assert is_silenced(RULE, [silence], 5) is covers


def test_fingerprint_tells_rules_apart() -> None:
    """Owner and name make the fingerprint; severity and condition do not."""
    same = Rule("settings", "High Response Time", "in_flight > 3", "info")

    assert same.fingerprint == RULE.fingerprint
    assert len({RULE.fingerprint, Rule("a", "bc", "").fingerprint, Rule("ab", "c", "").fingerprint}) == 3
