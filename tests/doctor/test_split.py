"""The first split: waiting, or being served slowly; its shares add up."""

import pytest
from msgspec.structs import replace

from doctor.traffic import asks, evidence, times
from slipstream.core.errors import BadRequest
from slipstream.core.use import UseRow
from slipstream.doctor.diagnosis import diagnose
from slipstream.doctor.doctor import Doctor
from slipstream.doctor.evidence import Evidence
from slipstream.doctor.split import PARTS, Split, split
from slipstream.doctor.symptoms import symptoms


def found(given: Evidence) -> Split:
    told = split(given)
    assert told is not None
    assert {each.part for each in told.parts} == set(PARTS)
    for shares in zip(*((each.share, each.gap, each.variance) for each in told.parts), strict=True):
        assert sum(shares) == pytest.approx(1.0, abs=1e-6)
    return told


def test_too_few_connections_are_queueing() -> None:
    """Waits grow, the service time is flat."""
    told = found(evidence(asks(300, 14), {"a": times()}, more={"a": {"connections": 6}}))

    assert told.kind == "queueing"
    assert "waiting" in told.text


def test_a_slow_upstream_is_slow_service() -> None:
    """Nobody waits; some are served slowly."""
    told = found(evidence(asks(300, 12), {"east": times(), "west": times(0.9, 0.05)}))

    assert told.kind == "slow service"


def test_longer_answers_are_told_apart() -> None:
    """At the same pace a long answer takes long: that is no fault of the upstream."""
    asked = [
        replace(each, output=each.output * 12) if number % 8 == 0 else each
        for number, each in enumerate(asks(300, 10))
    ]
    told = found(evidence(asked, {"a": times(0.05, 0.01, spread=0.05)}))

    assert told.kind == "longer answers"


def test_few_requests_are_not_split() -> None:
    """Nothing is said of little."""
    assert split(evidence(asks(10, 10), {"a": times()})) is None


def test_what_is_full_now_is_a_symptom_and_no_cause() -> None:
    """The USE table of the live server: the verdict is still that requests are well."""
    given = evidence(asks(300, 10), {"a": times()})
    full = replace(
        given, resources=(UseRow("cpu", 0.97, 12.0, "% of the time", None, "2 cores"), UseRow("disk", 0.1))
    )

    assert symptoms(given) == ()
    (told,) = symptoms(full)
    assert told.group == "high resource usage"
    assert "cpu (97% used, work waits for it 12% of the time)" in told.text
    assert "disk" not in told.text
    said = diagnose(full).verdict
    assert said.startswith("No cause found: requests are well")
    assert said == "No cause found: requests are well, but something is strained."
    assert diagnose(given).verdict == "No cause found: the server is well."


def test_answers_that_asked_nobody_are_no_measure() -> None:
    """Cached ones take no service at all: the usual ones are those that reached an upstream."""
    given = evidence(asks(300, 12), {"east": times(), "west": times(0.9, 0.05)})
    cached = [
        replace(each, visit=None, parts=replace(each.parts, first=0, rest=0)) for each in given.flows[:200]
    ]
    told = split(replace(given, flows=(*cached, *given.flows[200:])))

    assert told is not None
    assert "e+" not in told.text
    assert split(replace(given, flows=tuple(cached))) is None


def test_a_window_is_a_time_to_look_back() -> None:
    """No time at all is none."""
    for window in ("0s", 0, -1, float("nan"), float("inf")):
        with pytest.raises(BadRequest, match="no window"):
            Doctor().evidence(window)
