"""The search for a limit, on systems whose limit is known: where it looks, and what it finds."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.testing.load.limit import cautions_of, conclude, resource
from slipstream.testing.load.search import Probe, bracket, crossing, decide, next_users, settle


def slots_probe(users: int, *, slots: int, service_ms: float, bound_ms: float) -> Probe:
    """What a server with so many slots and a fixed service time does to a closed loop."""
    throughput = min(users, slots) / service_ms * 1000
    response = users / throughput * 1000
    good = response <= bound_ms + 1e-9
    return Probe(
        users=users, good=100 if good else 0, count=100, errors=0, throughput=throughput,
        goodput=throughput if good else 0.0, service_ms_mean=response, response_ms_p50=response,
        response_ms_p95=response, verdict="good" if good else "bad",
    )  # fmt: skip


def searched(slots: int, bound_ms: float, *, precision: float = 0.03, users_max: int = 4096) -> list[Probe]:
    probes: list[Probe] = []
    users: int | None = 1
    while users is not None:
        probes.append(slots_probe(users, slots=slots, service_ms=100, bound_ms=bound_ms))
        users = next_users(probes, users_max=users_max, precision=precision, response_ms=bound_ms)
        assert len(probes) < 60
    return probes


@settings(max_examples=30)
@given(st.integers(1, 500), st.floats(1.05, 4))
def test_the_limit_of_slots_is_found(slots: int, slack: float) -> None:
    """So many users as the bound allows, to the precision asked for, and the ceiling exactly."""
    probes = searched(slots, 100 * slack)
    truth = math.floor(slots * slack + 1e-9)
    found = conclude(probes, target="t", objectives=(), wanted=0.95, error_threshold=5.0)

    assert found.users is not None
    assert found.users <= truth < found.beyond
    assert truth - found.users <= max(1, 0.03 * found.users)
    assert found.ceiling == pytest.approx(slots * 10, rel=0.05)
    assert found.knee_users == pytest.approx(slots, rel=0.05)
    assert len({each.users for each in probes}) == len(probes)


def test_few_probes_are_needed() -> None:
    """A limit of 120 users in no more probes than doubling and halving take."""
    assert len(searched(100, 120.0, precision=0.03)) <= 8 + math.ceil(math.log2(64 / 2))


def test_users_are_bounded() -> None:
    """A system that never gives in is not asked for more than the bound, and has no limit."""
    probes = searched(10**9, 200.0, users_max=300)
    found = conclude(probes, target="t", objectives=(), wanted=0.95, error_threshold=5.0)

    assert max(each.users for each in probes) == 300
    assert (found.users, found.beyond) == (300, None)
    assert "not reached" in found.resource


def test_one_user_may_be_too_many() -> None:
    """Where not even one user is served well, there is no limit to tell, and the search ends."""
    probe = slots_probe(1, slots=1, service_ms=100, bound_ms=50)

    assert next_users([probe], users_max=100, precision=0.03, response_ms=50) is None
    assert conclude([probe], target="t", objectives=(), wanted=0.95, error_threshold=5.0).users is None


def test_a_good_probe_above_a_bad_one_is_luck() -> None:
    """The bracket lies below the fewest users that were too many."""
    probes = [
        slots_probe(users, slots=10, service_ms=100, bound_ms=bound)
        for users, bound in ((1, 200), (8, 200), (16, 50), (32, 1000))
    ]

    assert bracket(probes) == (8, 16)


def test_the_law_says_where_it_is_crossed() -> None:
    """Little's N / X(N) of the fitted law crosses the bound where the system does."""
    probes = []
    for users in (1, 2, 4, 8, 16, 32, 64):
        rate = 10 * users / (1 + 0.02 * (users - 1) + 0.0005 * users * (users - 1))
        probes.append(Probe(users=users, good=1, count=1, errors=0, throughput=rate, goodput=rate))
    # N / X = 0.1 (1 + 0.02 (N-1) + 0.0005 N (N-1)) <= 0.2 up to N = 30
    truth = max(n for n in range(1, 65) if 0.1 * (1 + 0.02 * (n - 1) + 0.0005 * n * (n - 1)) <= 0.2)

    assert crossing(probes, 200.0) == truth


@pytest.mark.parametrize(
    ("good", "count", "verdict"),
    [(0, 0, "undecided"), (20, 20, "undecided"), (73, 73, "good"), (0, 3, "bad"), (95, 100, "undecided")],
)
def test_a_probe_ends_when_it_is_decided(good: int, count: int, verdict: str) -> None:
    """All of 73 requests good is surely at least 95 %, none of three surely not."""
    assert decide(good, count, 0.95) == verdict


def test_the_edge_is_settled_by_what_was_seen() -> None:
    assert (settle(96, 100, 0.95), settle(94, 100, 0.95), settle(0, 0, 0.95)) == ("good", "bad", "bad")


@pytest.mark.parametrize(
    ("beyond", "said"),
    [
        ({"errors": 60, "error_kinds": {"http_429": 60}}, "http_429"),
        ({"busiest_cores": 0.97}, "target's CPU"),
        ({"invalid": ("a worker of the client was 99% busy",)}, "client"),
        ({}, "queue: about 10 requests"),
    ],
)
def test_what_was_saturated(beyond: dict[str, object], said: str) -> None:
    """Refusals, a busy machine, the client itself, or a queue in front of slots."""
    at = slots_probe(20, slots=10, service_ms=100, bound_ms=200)
    over = {
        name: getattr(slots_probe(24, slots=10, service_ms=100, bound_ms=200), name)
        for name in Probe.__struct_fields__
    }

    assert said in resource([at, Probe(**{**over, **beyond})], 20, 10.0)


def test_what_makes_it_doubtful() -> None:
    """A client that was the bottleneck, repeated probes, and a machine that was busy with other work."""
    quiet = slots_probe(4, slots=10, service_ms=100, bound_ms=200)
    fields = {name: getattr(quiet, name) for name in Probe.__struct_fields__}
    busy = Probe(**{**fields, "cpu_share": 0.99, "busiest_cores": 0.1, "disturbed": True})

    assert cautions_of([quiet]) == ()
    assert [each.split(" ")[0] for each in cautions_of([busy])] == ["probes", "this"]
    assert cautions_of([Probe(**{**fields, "cpu_share": 0.99, "busiest_cores": 0.95})]) == ()
    assert "client" in cautions_of([Probe(**{**fields, "invalid": ("a worker died",)})])[0]
