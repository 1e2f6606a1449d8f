"""What somebody has seen in an earlier look is done, and nothing else: setting and value must be those."""

import pytest

from slipstream.core.errors import BadRequest
from slipstream.doctor.apply import expected
from slipstream.doctor.diagnosis import Cause, Diagnosis
from slipstream.doctor.finding import Finding, Fix
from slipstream.doctor.predict import Advice

QUOTED = 'models.upstreams."a=b".weight'


def found(fix: Fix | None) -> Diagnosis:
    finding = Finding("slow_upstream", "b", "It is slow.", 0.5, ())
    cause = Cause(1, finding, Advice(fix, None, "") if fix is not None else None)
    return Diagnosis("It is slow.", (), (cause,), (), 100, 0, 1)


WEIGHT = Fix("models.upstreams.b.weight", "1", "0.1", "send it less")


@pytest.mark.parametrize(
    ("fix", "expect"),
    [
        (WEIGHT, "models.upstreams.b.weight"),
        (WEIGHT, "models.upstreams.b.weight=0.1"),
        (WEIGHT, " models.upstreams.b.weight = 0.10 "),
        (Fix(QUOTED, "1", "2", ""), QUOTED),
        (Fix(QUOTED, "1", "2", ""), f"{QUOTED}=2"),
    ],
)
def test_what_is_advised_is_expected(fix: Fix, expect: str) -> None:
    """By its name, or with its value in any spelling."""
    expected(found(fix), 1, expect)


@pytest.mark.parametrize(
    "expect",
    [
        "models.upstreams.b.weight=0.2",
        "models.upstreams.b.weight=",
        "models.upstreams.b.weight=no value",
        "models.upstreams.b.weights",
        "models.upstreams.b",
        "models.upstreams.c.weight=0.1",
        "=0.1",
        'models.upstreams.b.weight="0.1"',
    ],
)
def test_anything_else_is_refused_with_what_is_advised_now(expect: str) -> None:
    """So that whoever asked can ask again."""
    with pytest.raises(BadRequest) as refused:
        expected(found(WEIGHT), 1, expect)

    assert f"does not advise `{expect}`" in refused.value.message
    assert "`models.upstreams.b.weight=0.1`" in refused.value.message
    assert "Nothing was changed" in refused.value.hint


@pytest.mark.parametrize(("fix", "number"), [(None, 1), (Fix("", "", "", "look at it"), 1), (WEIGHT, 2)])
def test_where_nothing_is_advised_that_is_said(fix: Fix | None, number: int) -> None:
    """No such cause, no fix, or one that is no setting."""
    with pytest.raises(BadRequest, match="it advises nothing"):
        expected(found(fix), number, "models.upstreams.b.weight=0.1")
