"""Rules asked second by second: what fires, what is stored, who is told, and what a restart keeps."""

import msgspec

from monitoring.given import Given
from slipstream.config.alerting import Receiver, Routes
from slipstream.config.settings import Alerts, Slo
from slipstream.core.alert_groups import Notification
from slipstream.core.alerts import AlertState, Phase, Rule, Silence
from slipstream.monitoring.alerts.evaluator import Evaluator, Look

S = 1_000_000_000
HOOK = Receiver(kind="webhook", url="http://127.0.0.1:1/")
SETTINGS = Alerts(
    receivers={"ops": HOOK, "quiet": msgspec.structs.replace(HOOK, resolved=False)},
    routes=Routes(warning=("ops",), critical=("ops", "quiet")),
    wait_seconds=2,
    interval_seconds=5,
    repeat_seconds=100,
)
BUSY = Rule("me", "Busy", "in_flight > 3", "critical")


def seconds(evaluator: Evaluator, readings: Given, *numbers: int) -> list[Look]:
    return [evaluator.look(readings, number * S, (1000 + number) * S) for number in numbers]


def notifications(looks: list[Look]) -> list[Notification]:
    return [
        msgspec.json.decode(message.payload, type=Notification) for look in looks for message in look.messages
    ]


def an_evaluator(*rules: Rule) -> Evaluator:
    evaluator = Evaluator(SETTINGS, {})
    evaluator.set_rules(rules)
    return evaluator


def test_fires_tells_and_resolves() -> None:
    """The state changes at once, receivers are told after the wait, and of the end by those who want it."""
    evaluator, readings = an_evaluator(BUSY), Given(in_flight=9.0)
    firing = seconds(evaluator, readings, 0, 1, 2, 3)
    readings.values["in_flight"] = 1.0
    ended = seconds(evaluator, readings, *range(4, 12))

    assert [change.phase for look in (*firing, *ended) for change in look.events] == [
        Phase.FIRING,
        Phase.RESOLVED,
    ]
    assert [(each.receiver, each.status) for each in notifications(firing)] == [
        ("ops", "firing"),
        ("quiet", "firing"),
    ]
    (end,) = notifications(ended)
    assert (end.receiver, end.status, end.resolved[0].ended_wall_ns) == ("ops", "resolved", 1004 * S)
    assert firing[0].events[0].value == "9"


def test_severity_decides_who_is_told() -> None:
    """Each severity has its own receivers, and one without any is watched all the same."""
    warning, info = (msgspec.structs.replace(BUSY, severity=each) for each in ("warning", "info"))

    assert [
        each.receiver for each in notifications(seconds(an_evaluator(warning), Given(in_flight=9.0), 0, 2))
    ] == ["ops"]
    silent = an_evaluator(info)
    assert notifications(seconds(silent, Given(in_flight=9.0), 0, 2)) == []
    assert silent.views(0)[0].phase is Phase.FIRING
    assert silent.firing() == {"info": 1, "warning": 0, "critical": 0}


def test_silence_keeps_quiet() -> None:
    """A silenced rule fires, is shown as silenced, and tells nobody until the silence expires."""
    evaluator, readings = an_evaluator(BUSY), Given(in_flight=9.0)
    evaluator.set_silences([Silence("s", "Bu*", 0, 1010 * S)])
    quiet = seconds(evaluator, readings, *range(10))

    assert notifications(quiet) == []
    assert evaluator.views(1005 * S)[0].silenced
    assert [each.receiver for each in notifications(seconds(evaluator, readings, 10, 12))] == ["ops", "quiet"]


def test_one_bad_rule_stops_no_other() -> None:
    """A condition of an older version is shown with its error; the others are asked."""
    evaluator = an_evaluator(Rule("me", "Old", "no_such_metric > 3"), BUSY)
    seconds(evaluator, Given(in_flight=9.0), 0)

    busy, old = evaluator.views(0)
    assert (busy.name, busy.phase) == ("Busy", Phase.FIRING)
    assert (old.phase, "There is no metric `no_such_metric`" in old.error) == (Phase.INACTIVE, True)


def test_objective_that_left_the_settings() -> None:
    """`burn` of an objective that is gone is an error of that rule."""
    evaluator = Evaluator(SETTINGS, {"up": Slo(objective=99.0)})
    evaluator.set_rules([Rule("me", "A", "burn(up, 1h) > 1"), Rule("me", "B", "burn(gone, 1h) > 1")])

    assert [bool(view.error) for view in evaluator.views(0)] == [False, True]


def test_unchanged_rule_goes_on() -> None:
    """Setting the same rules again loses no progress; a changed condition begins anew."""
    rule = Rule("me", "Busy", "in_flight > 3 for 3s", "critical")
    evaluator, readings = an_evaluator(rule), Given(in_flight=9.0)
    seconds(evaluator, readings, 0, 1, 2)
    evaluator.set_rules([rule])
    seconds(evaluator, readings, 3)
    assert evaluator.views(0)[0].phase is Phase.FIRING

    evaluator.set_rules([msgspec.structs.replace(rule, condition="in_flight > 4 for 3s")])
    assert evaluator.views(0)[0].phase is Phase.INACTIVE


def test_restart_neither_loses_nor_repeats() -> None:
    """What was stored is enough: a firing rule goes on firing, and nobody is told again."""
    before, readings = an_evaluator(BUSY), Given(in_flight=9.0)
    looks = seconds(before, readings, 0, 1, 2)
    states = {(rule.owner, rule.name): state for look in looks for rule, state in look.states}
    groups = [group for look in looks for group in look.told]
    after = Evaluator(SETTINGS, {})
    after.restore(groups)
    after.set_rules([BUSY], states)
    later = seconds(after, readings, 60, 61, 62, 63)

    assert states["me", "Busy"].phase is Phase.FIRING
    assert notifications(later) == []
    assert [change for look in later for change in look.events] == []


def test_restart_keeps_the_progress_of_for() -> None:
    """How long a condition held is stored every five seconds, and standing still counts for nothing."""
    rule = Rule("me", "Busy", "in_flight > 3 for 20s", "critical")
    before, readings = an_evaluator(rule), Given(in_flight=9.0)
    states: dict[tuple[str, str], AlertState] = {}
    for look in seconds(before, readings, *range(12)):
        states |= {(each.owner, each.name): state for each, state in look.states}
    after = Evaluator(SETTINGS, {})
    after.set_rules([rule], states)
    phases = []
    for number in range(1000, 1012):
        seconds(after, readings, number)
        phases.append(after.views(0)[0].phase)

    assert states["me", "Busy"].held_ns >= 5 * S
    assert phases.count(Phase.FIRING) <= 12 - (20 - 11)
    assert phases[0] is Phase.PENDING


def test_pause_of_the_server_is_not_watched_time() -> None:
    """After an hour in which nobody looked, `for 30s` has not been seen to hold."""
    evaluator = an_evaluator(Rule("me", "Busy", "in_flight > 3 for 30s"))
    seconds(evaluator, Given(in_flight=9.0), 0, 3600)

    assert evaluator.views(0)[0].phase is Phase.PENDING


def test_long_windows_are_asked_less_often() -> None:
    """An answer of three days does not change by the second."""
    evaluator, readings = an_evaluator(Rule("me", "Slow", "rate(errors, 3d) > 1")), Given(errors=1.0)
    seconds(evaluator, readings, *range(432))

    assert len([each for each in readings.asked if each[0] == "errors"]) == 2  # once, and once for its value


def test_deleted_rule_is_told_as_over() -> None:
    """Whoever was told of a rule is told of its end when it is deleted."""
    evaluator, readings = an_evaluator(BUSY), Given(in_flight=9.0)
    seconds(evaluator, readings, 0, 2)
    evaluator.set_rules([])
    (end,) = notifications(seconds(evaluator, readings, 10))

    assert (end.receiver, end.resolved[0].name, end.resolved[0].ended_wall_ns) == ("ops", "Busy", 1010 * S)
