"""The file of the alerts: rules, states, history, silences, messages and marks come back as they were stored."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.core.alert_groups import Alert
from slipstream.core.alerts import AlertState, Event, Mark, Phase, Rule, Silence
from slipstream.core.errors import BadRequest
from slipstream.core.outbox import Message, delivered
from slipstream.store import alerts
from slipstream.store.alerts import AlertStore, Step, Told, group_of

RULE = Rule("me", "High", "response_time > 5000", "critical")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AlertStore]:
    """An empty file, which keeps three events and messages."""
    opened = AlertStore(tmp_path / "alerts.db", keep=3)
    yield opened
    opened.close()


def event(number: int) -> Event:
    return Event(number, "me", "High", "critical", Phase.FIRING, "6 s", "p95 …")


def message(number: int) -> Message:
    return Message(str(number), "alert", "ops", "High", b"\x00{}", created_wall_ns=number)


def test_rule_is_replaced_by_its_name(store: AlertStore) -> None:
    """One rule an owner and name: giving it again changes it and adds none."""
    other = Rule("you", "High", "in_flight > 3")
    changed = Rule("me", "High", "response_time > 9000", "info")
    for rule in (RULE, other, RULE, changed):
        store.put_rule(rule, 1)

    assert store.rules() == [changed, other]


def test_rules_of_an_owner_are_replaced_together(store: AlertStore) -> None:
    """Rules that left the settings are gone with their states; those of others stay."""
    other = Rule("you", "High", "in_flight > 3")
    store.put_rule(other, 1)
    store.put_rules_of("me", [RULE, Rule("me", "Old", "in_flight > 3")], 1)
    store.save(Step(states=((Rule("me", "Old", ""), AlertState()), (RULE, AlertState()))))
    store.put_rules_of("me", [RULE], 2)

    assert store.rules() == [RULE, other]
    assert list(store.states()) == [("me", "High")]


def test_changed_condition_begins_anew(store: AlertStore) -> None:
    """The state belongs to the condition: another severity keeps it, another condition does not."""
    store.put_rule(RULE, 1)
    store.save(Step(states=((RULE, AlertState(Phase.FIRING)),)))
    store.put_rule(Rule("me", "High", RULE.condition, "info"), 2)
    assert store.states() == {("me", "High"): AlertState(Phase.FIRING)}

    store.put_rule(Rule("me", "High", "in_flight > 3", "info"), 3)
    assert store.states() == {}


def test_deleted_rule_is_gone(store: AlertStore) -> None:
    """Deleting says whether there was one."""
    store.put_rule(RULE, 1)

    assert [store.delete_rule("me", "High"), store.delete_rule("me", "High")] == [True, False]
    assert store.rules() == []


def test_rules_are_bounded(store: AlertStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit a new rule is refused and an old one can still be changed."""
    monkeypatch.setattr(alerts, "RULES_MAX", 1)
    store.put_rule(RULE, 1)
    store.put_rule(RULE, 1)

    with pytest.raises(BadRequest, match="Delete some"):
        store.put_rule(Rule("me", "Other", ""), 1)


def test_step_comes_back(store: AlertStore, tmp_path: Path) -> None:
    """States, events, what was told and messages survive the process."""
    state = AlertState(Phase.PENDING, held_ns=7, since_wall_ns=8, value=1.5, has_data=True)
    told = Told("ops", "critical", 5, {"f": Alert("f", "me", "High", "critical", "c", "v", 1)})
    store.save(Step(((RULE, state),), (event(1), event(2)), (told,), (message(1),)))
    store.close()
    again = AlertStore(tmp_path / "alerts.db")

    assert again.states() == {("me", "High"): state}
    assert [each.wall_ns for each in again.history()] == [2, 1]
    assert again.told() == [told]
    assert again.messages("waiting") == [message(1)]
    again.close()
    store._database.reopen()


def test_history_and_settled_messages_are_bounded(store: AlertStore) -> None:
    """The oldest go; a message that waits never does."""
    store.put_messages([message(number) for number in range(5)])
    for number in range(5):
        store.save(Step(events=(event(number),)))
        store.put_messages([delivered(message(10 + number))])

    assert [each.wall_ns for each in store.history()] == [4, 3, 2]
    assert [each.wall_ns for each in store.history(before_id=4)] == [2]
    assert len(store.messages("waiting")) == 5
    assert [each.id for each in store.messages("sent")] == ["14", "13", "12"]


def test_message_changes_its_state(store: AlertStore) -> None:
    """A message is one row, whatever becomes of it."""
    store.put_messages([message(1)])
    store.put_messages([delivered(message(1))])

    assert store.messages("waiting") == []
    assert store.message("1") == delivered(message(1))
    assert store.message("2") is None


def test_silences_expire(store: AlertStore) -> None:
    """Expired silences are not told of, and ended ones are gone."""
    store.put_silence(Silence("a", "High*", 1, 10, author="me", comment="deploy"))
    store.put_silence(Silence("b", "*", 1, 20))

    assert [each.id for each in store.silences(5)] == ["a", "b"]
    assert [each.id for each in store.silences(10)] == ["b"]
    assert [store.end_silence("b"), store.end_silence("b")] == [True, False]


def test_silences_are_bounded(store: AlertStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expired ones make room first."""
    monkeypatch.setattr(alerts, "SILENCES_MAX", 1)
    store.put_silence(Silence("a", "*", 1, 10))
    store.put_silence(Silence("b", "*", 10, 20))

    with pytest.raises(BadRequest, match="End some"):
        store.put_silence(Silence("c", "*", 11, 20))


def test_marks_of_a_range(store: AlertStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks come oldest first; of too many the oldest goes."""
    monkeypatch.setattr(alerts, "MARKS_MAX", 2)
    for number in range(4):
        store.put_mark(Mark(number, "deploy", f"v{number}", "me"))

    assert [(each.wall_ns, each.text) for each in store.marks(0, 9)] == [(2, "v2"), (3, "v3")]
    assert store.marks(0, 2) == [Mark(2, "deploy", "v2", "me", id=3)]


def test_told_goes_on_after_a_restart() -> None:
    """How long ago a receiver was told is kept; a clock that went back makes it now."""
    told = Told("ops", "critical", 100, {})

    assert group_of(told, 1000, 130).sent_ns == 970
    assert group_of(told, 1000, 50).sent_ns == 1000
