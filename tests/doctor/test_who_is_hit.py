"""Who is hit by a symptom: those who are slower than all others, however many there are."""

import statistics
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from doctor.traffic import asks, evidence, times
from slipstream.doctor.symptoms import hit, median_without

VALUES = st.integers(0, 6).map(lambda value: value / 3)  # few of them: ties are what goes wrong


@given(st.lists(VALUES, max_size=20), st.lists(VALUES, min_size=1, max_size=20))
def test_the_median_of_the_others_is_theirs(some: list[float], others: list[float]) -> None:
    """As if the others had been listed and sorted."""
    assert median_without(sorted(some + others), sorted(some)) == statistics.median(others)


def test_the_slow_one_of_many_tenants_is_named() -> None:
    """Each is held against all the others; who has asked too little is not judged."""
    flows = evidence(asks(600, 20), {"a": times()}).flows
    ordered = sorted(flows, key=lambda flow: flow.record.duration_ns)
    slow = {flow.record.id for flow in ordered[-24:]}
    few = {flow.record.id for flow in ordered[-30:-24]}
    named = []
    for at, flow in enumerate(flows):
        name = flow.record.id
        tenant = "acme" if name in slow else "newcomer" if name in few else f"t{at % 40}"
        named.append(replace(flow, record=replace(flow.record, tenant=tenant)))
    counts = Counter(flow.record.tenant for flow in named)

    assert counts["acme"] == 24
    assert counts["newcomer"] == 6
    assert "tenant acme" in hit(named)
    assert "tenant newcomer" not in hit(named)
