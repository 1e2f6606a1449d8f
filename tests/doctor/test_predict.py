"""What a fix would bring: near the truth, within its interval, and refused where nobody can know."""

from doctor.traffic import asks, evidence, happened, settings, times
from slipstream.doctor.change import changed
from slipstream.doctor.checks import examined
from slipstream.doctor.diagnosis import diagnose
from slipstream.doctor.evidence import Evidence
from slipstream.doctor.finding import Finding, Fix
from slipstream.doctor.outcome import outcome, took
from slipstream.doctor.predict import Prediction, advise, predict

CAP = {"a": {"connections": 6, "wait_seconds": 60.0}}
ASKED = asks(300, 12)


def capped() -> tuple[Evidence, Finding]:
    given = evidence(ASKED, {"a": times()}, more=CAP)
    return given, examined(given)[0][0]


def test_the_prediction_meets_the_truth() -> None:
    """Half as many connections again, as advised: the true p95 is within 15 % and in the interval."""
    given, finding = capped()
    advice = advise(given, finding)
    assert advice is not None
    told = advice.prediction
    assert told is not None
    more = {"a": {"connections": int(advice.fix.after), "wait_seconds": 60.0}}
    truth = outcome(took(happened(ASKED, {"a": times()}, more=more, seed=99)[0]))

    assert abs(told.then.p95 / truth.p95 - 1) < 0.15
    assert told.p95.low * 0.9 <= truth.p95 <= told.p95.high * 1.1
    assert told.gain > 0.1
    assert abs(told.replay_error) < 0.15


def test_it_is_the_same_each_time() -> None:
    """The same evidence gives the same diagnosis, to the last digit."""
    given, _ = capped()

    assert diagnose(given, replays=2) == diagnose(given, replays=2)


def test_nothing_is_said_of_what_was_never_seen() -> None:
    """All of two upstreams' load on one, more than half as much again as ever was there: refused, with why."""
    given = evidence(asks(300, 60), {"a": times(), "b": times()})
    fix = Fix("models.upstreams.b.weight", "1", "0.001", "")
    finding = Finding("slow_upstream", "b", "", 1.0, (), (), (fix,))
    said = predict(given, finding, fix, replays=1)

    assert isinstance(said, str)
    assert "1.5 times" in said


def test_a_fix_that_gains_nothing_is_not_advised() -> None:
    """More connections where nobody waits: no setting helps, and that is said."""
    given = evidence(asks(200, 6), {"a": times()})
    fix = Fix("models.upstreams.a.connections", "256", "384", "")
    advice = advise(given, Finding("small_cap", "a", "", 1.0, (), (), (fix,)), replays=2)

    assert advice is not None
    assert advice.prediction is None
    assert advice.fix.setting == ""


def test_a_server_is_not_called_fast_for_turning_people_away() -> None:
    """Requests without an answer count as the slowest."""
    given, finding = capped()
    fix = Fix("models.upstreams.a.waiting", "1024", "0", "")
    told = predict(given, finding, fix, replays=1)

    assert isinstance(told, Prediction)
    assert told.then.failed_share > 0.05
    assert told.then.p95 >= told.then.p50


def test_one_setting_is_changed_and_no_other() -> None:
    """By its written name, with quotes where a name needs them."""
    before = settings({"host:80": {}, "b": {}})
    after = changed(before, 'models.upstreams."host:80".weight', "0.5")

    assert after.models.upstreams["host:80"].weight == 0.5
    assert after.models.upstreams["b"] == before.models.upstreams["b"]
    assert changed(after, 'models.upstreams."host:80".weight', "1") == before
