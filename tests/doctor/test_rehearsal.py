"""What predictions share is the same as if each had made it for itself."""

from msgspec.structs import replace

from doctor.traffic import asks, evidence, times
from slipstream.doctor.change import changed
from slipstream.doctor.checks import examined
from slipstream.doctor.evidence import Evidence
from slipstream.doctor.predict import Prediction, _predicted, predict
from slipstream.doctor.rehearsal import Rehearsals, Scene


def ill() -> Evidence:
    """Two causes at once: one upstream is slow, and requests wait for the other."""
    behind = {"a": times(), "b": times(0.9, 0.03)}
    return evidence(asks(300, 12), behind, more={"a": {"connections": 3}})


def test_shared_or_not_the_prediction_is_the_same() -> None:
    """Of every fix of every cause, in turn, to the bit, beside a prediction of that fix alone."""
    given = ill()
    rehearsals = Rehearsals(given)
    fixes = [(finding, fix) for finding in examined(given)[0] for fix in finding.fixes]
    shared = [_predicted(rehearsals, finding, fix, 2) for finding, fix in fixes * 2]
    alone = [predict(given, finding, fix, replays=2) for finding, fix in fixes]

    assert len({finding.check for finding, _ in fixes}) == 2
    assert any(isinstance(each, Prediction) for each in alone)
    assert shared == alone * 2


def test_each_setting_is_replayed_once_for_a_luck() -> None:
    """The settings in force are the same for all fixes; another luck is another history."""
    rehearsal = Rehearsals(ill()).of(is_whole=False)
    fewer = Scene("fewer", changed(rehearsal.settings, "models.upstreams.a.connections", "1"))

    assert rehearsal.play(0) is rehearsal.play(0)
    assert rehearsal.play(0) is not rehearsal.play(1)
    assert rehearsal.play(0).met != rehearsal.play(1).met
    assert rehearsal.play(0, fewer) is rehearsal.play(0, fewer)
    assert rehearsal.play(0, fewer).outcome.p95 > rehearsal.play(0).outcome.p95


def test_without_an_onset_there_is_one_rehearsal() -> None:
    """From the beginning is then since the onset; with one it is not."""
    given = ill()
    assert not given.before
    same = Rehearsals(given)
    assert same.of(is_whole=True) is same.of(is_whole=False)


def test_the_whole_window_is_told_in_one_order() -> None:
    """Upstreams as they came, in every process: their order decides what luck each draws."""
    given = ill()
    answers = next(iter(given.answers.values()))
    names = [f"upstream-{at}" for at in range(12)]
    parted = replace(
        given, answers_before=dict.fromkeys(names[:8], answers), answers=dict.fromkeys(names[4:], answers)
    )

    assert list(parted.whole().answers) == names
