"""A record says where attempts failed and why, in order, and never grows without bound."""

from hypothesis import given
from hypothesis import strategies as st

from flow.upstreams import NORMAL, Rig, Upstream
from slipstream.core.record import FAILURES_TEXT_MAX, Record
from slipstream.flow import virtual


def test_each_failed_attempt_is_named() -> None:
    """An upstream that answers 500 is named with its status; the one that served is not."""

    async def main() -> list[Record]:
        bad, good = Upstream("bad", (0.0, NORMAL)), Upstream("good")
        bad.simulate = "error=500"
        rig = Rig({"m": [bad, good]})
        for _ in range(12):
            await rig.ask()
        return rig.records

    records = virtual.run(main())
    retried = [record for record in records if record.attempts == 2]

    assert retried
    assert {record.failures for record in retried} == {"bad 500"}
    assert {record.failures for record in records if record.attempts == 1} <= {""}


@given(st.lists(st.tuples(st.text(max_size=300), st.text(max_size=60))))
def test_failures_stay_within_their_bound(told: list[tuple[str, str]]) -> None:
    """Whatever upstreams are called, the text is bounded and `;` only parts its items."""
    record = Record()
    for upstream, why in told:
        record.note_failure(upstream, why)

    assert len(record.failures) <= FAILURES_TEXT_MAX
    assert record.failures.count(";") < max(1, len(told))
