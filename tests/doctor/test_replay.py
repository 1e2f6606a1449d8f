"""Recorded traffic again through the real way: deterministic, open, and true to bounds and refusals."""

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace

from doctor.traffic import asks, happened, served, settings, times
from slipstream.doctor.outcome import outcome, took
from slipstream.doctor.refusals import Refusing
from slipstream.doctor.replay import Traffic, replay
from slipstream.doctor.times import parts_of, visits


def test_the_same_seed_gives_the_same_history() -> None:
    """Every time of every record agrees; another seed gives another history."""
    traffic = Traffic(
        asks(120, 10), {"a": served(times()), "b": served(times(0.3))}, {"a": ("m",), "b": ("m",)}
    )
    known = settings({"a": {}, "b": {}})

    def history(seed: int) -> list[tuple[str, int]]:
        return [(each.upstream, each.duration_ns) for each in replay(traffic, known, seed=seed).records]

    assert history(1) == history(1)
    assert history(1) != history(2)


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 1000))
def test_no_more_are_there_than_may_be(connections: int, seed: int) -> None:
    """A pool of so many connections is never exceeded, and everybody is served in the end."""
    records, _ = happened(asks(60, 20, seed=seed), {"a": times()}, more={"a": {"connections": connections}})

    assert max(visit.together for visit in visits(records)) <= connections
    assert {record.outcome for record in records} == {"served"}


def test_it_is_an_open_loop() -> None:
    """Arrivals are as recorded, however slow the answers are."""
    asked = asks(80, 30)
    records, _ = happened(asked, {"a": times(2.0)}, more={"a": {"connections": 1, "wait_seconds": 600.0}})
    start = records[0].arrived_wall_ns

    for each, record in zip(asked, records, strict=True):
        assert abs((record.arrived_wall_ns - start) / 1e9 - (each.at - asked[0].at)) < 1e-6


def test_refusals_are_retried_by_the_real_way() -> None:
    """An upstream that takes three at once answers 429 beyond; those go elsewhere."""
    refusing = {"a": Refusing(0.2, 3, None, 0.01, 429)}
    records, _ = happened(asks(200, 30), {"a": times(), "b": times()}, refusing=refusing)

    retried = [record for record in records if "a 429" in record.failures]
    assert retried
    assert {record.upstream for record in retried if record.outcome == "served"} == {"b"}


def test_what_holds_the_loop_delays_everybody() -> None:
    """CPU and stalls are charged to the clock: 0.5 s of it show in those under way."""
    asked = asks(60, 10)
    traffic = Traffic(asked, {"a": served(times())}, {"a": ("m",)})
    held = replace(traffic, stalls=tuple((at, 0.5) for at in (1.0, 2.0, 3.0, 4.0)))
    known = settings({"a": {}})
    before, after = (replay(each, known, seed=1).records for each in (traffic, held))

    assert outcome(took(after)).p95 > outcome(took(before)).p95 + 0.1


def test_a_request_that_holds_the_loop_says_so_itself() -> None:
    """Its own time lies between its steps."""
    asked = tuple(replace(each, busy=0.2 if at == 5 else 0.0) for at, each in enumerate(asks(20, 5)))
    traffic = Traffic(asked, {"a": served(times())}, {"a": ("m",)})
    records = replay(traffic, settings({"a": {}}), seed=1).records

    assert parts_of(records[5]).gateway >= 200_000_000
    assert max(parts_of(record).gateway for at, record in enumerate(records) if at != 5) < 200_000_000


def test_a_client_that_leaves_is_gone() -> None:
    """It is recorded as aborted at its time, and gives its place back."""
    asked = tuple(replace(each, stays=0.05 if at % 2 else None) for at, each in enumerate(asks(40, 10)))
    traffic = Traffic(asked, {"a": served(times(0.4), connections=3)}, {"a": ("m",)})
    records = replay(traffic, settings({"a": {}}), seed=1).records

    assert [record.outcome for record in records] == ["served", "aborted"] * 20
