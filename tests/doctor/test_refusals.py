"""Why an upstream refuses: too many at once, too many a second, or by chance; each is told apart."""

import pytest

from doctor.traffic import asks, happened, times
from slipstream.core.record import Record
from slipstream.doctor.refusals import NEVER, Failure, Refusing, failures_of, refusing


def fitted_to(how: Refusing) -> Refusing:
    records, _ = happened(asks(400, 14), {"a": times(), "b": times()}, refusing={"a": how})
    return refusing(records, "a")


def test_one_that_never_refuses() -> None:
    """Nothing is made up."""
    assert fitted_to(NEVER) is NEVER


def test_one_that_refuses_by_chance() -> None:
    """A share of its attempts, without a bound."""
    found = fitted_to(Refusing(0.15, None, None, 0.01, 500))

    assert found.chance == pytest.approx(0.15, abs=0.05)
    assert (found.together, found.per_second, found.status) == (None, None, 500)


def test_one_that_takes_so_many_at_once() -> None:
    """The bound, within one."""
    found = fitted_to(Refusing(1.0, 3, None, 0.01, 429))

    assert found.together == pytest.approx(3, abs=1)
    assert found.status == 429


def test_failures_of_ours_are_not_the_upstreams() -> None:
    """A full pool is a bound of this gateway."""
    record = Record(arrived_wall_ns=5, failures="a pool_timeout;b 429;c d connect_failed")

    assert failures_of(record) == [Failure("b", "429", 5, 0), Failure("c d", "connect_failed", 5, 0)]
