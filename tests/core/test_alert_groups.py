"""When receivers are told: groups, no message twice, repeats, silences."""

import hypothesis.strategies as st
from hypothesis import given

from slipstream.core.alert_groups import Alert, Group, Notification, Timing, tell

TIMING = Timing(wait_ns=10, interval_ns=60, repeat_ns=1000)
EMPTY = Group("ops", "warning", {})


def alert(name: str, started: int = 1) -> Alert:
    return Alert(name, "settings", name, "warning", "in_flight > 3", "4", started)


def looks(group: Group, *steps: tuple[int, str], silenced: str = "") -> list[tuple[int, str, str, str]]:
    """The messages of a sequence of looks, each a time and the names that fire."""
    sent = []
    for now, names in steps:
        group, message = tell(
            group, {name: alert(name) for name in names}, set(silenced), now, timing=TIMING, wall_ns=now
        )
        if message is not None:
            sent.append((now, told(message.firing), told(message.resolved), message.reason))
    return sent


def told(alerts: tuple[Alert, ...]) -> str:
    return "".join(each.name for each in alerts)


def test_what_breaks_together_arrives_together() -> None:
    """The first message waits a little, and holds all that fires by then."""
    assert looks(EMPTY, (0, "a"), (5, "ab"), (10, "abc"), (11, "abc")) == [(10, "abc", "", "changed")]


def test_changes_come_at_most_every_interval() -> None:
    """After a message, news and ends wait for the interval."""
    assert looks(EMPTY, (0, "a"), (10, "a"), (20, "ab"), (69, "b"), (70, "b"), (80, "b")) == [
        (10, "a", "", "changed"),
        (70, "b", "a", "changed"),
    ]


def test_nothing_is_told_twice_before_its_repeat() -> None:
    """What still fires is told again after the repeat time, and then again."""
    steps = [(now, "a") for now in range(0, 2100, 5)]

    assert looks(EMPTY, *steps) == [
        (10, "a", "", "changed"),
        (1010, "a", "", "repeated"),
        (2010, "a", "", "repeated"),
    ]


def test_end_is_told_once() -> None:
    """The last alert's end is a message of its own, and then there is silence."""
    assert looks(EMPTY, (0, "a"), (10, "a"), (70, ""), (200, ""), (5000, "")) == [
        (10, "a", "", "changed"),
        (70, "", "a", "changed"),
    ]


def test_flash_is_not_told() -> None:
    """What is over before the wait is over is not told."""
    assert looks(EMPTY, (0, "a"), (5, ""), (10, ""), (500, "")) == []


def test_silenced_is_not_told() -> None:
    """Neither the beginning nor the end of what is silenced is told."""
    assert looks(EMPTY, (0, "a"), (10, "a"), (70, ""), silenced="a") == []


def test_silence_ends() -> None:
    """What fires on after its silence is told then."""
    group, message = tell(EMPTY, {"a": alert("a")}, {"a"}, 0, timing=TIMING, wall_ns=0)
    assert message is None

    assert looks(group, (100, "a"), (110, "a")) == [(110, "a", "", "changed")]


def test_new_incident_is_news() -> None:
    """A rule that fires anew between two messages is told, though its name was told before."""
    group = Group("ops", "warning", {"a": alert("a", started=1)}, sent_ns=0)
    _, message = tell(group, {"a": alert("a", started=2)}, (), 60, timing=TIMING, wall_ns=0)

    assert message == Notification("ops", "warning", (alert("a", started=2),), ())


def test_resolved_alert_has_its_end() -> None:
    """A message of an end says when it was."""
    group = Group("ops", "warning", {"a": alert("a")}, sent_ns=0)
    after, message = tell(group, {}, (), 60, timing=TIMING, wall_ns=77)

    assert message is not None
    assert (message.status, message.resolved[0].ended_wall_ns, after.told) == ("resolved", 77, {})


@given(st.lists(st.tuples(st.integers(1, 100), st.sets(st.sampled_from("abc"))), max_size=80))
def test_receiver_learns_the_truth(steps: list[tuple[int, set[str]]]) -> None:
    """Whatever fires and ends: messages keep their distance, and in the end the receiver knows what holds."""
    group, now, believed, sent = EMPTY, 0, set(), []
    last = [(2000, steps[-1][1] if steps else set())] * 2
    for pause, names in [*steps, *last]:
        now += pause
        group, message = tell(
            group, {name: alert(name) for name in names}, (), now, timing=TIMING, wall_ns=now
        )
        if message is not None:
            assert message.firing or message.resolved
            assert not believed or now - sent[-1] >= TIMING.interval_ns
            believed = (believed - {each.name for each in message.resolved}) | {
                each.name for each in message.firing
            }
            sent.append(now)

    assert believed == (steps[-1][1] if steps else set())
