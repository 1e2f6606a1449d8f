"""What clients do wrong is no outcome of a setting: it moves no figure, no prediction, no verdict, no symptom."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from doctor.traffic import asks, happened, times
from slipstream.config.settings import Settings
from slipstream.core import clock
from slipstream.core.record import Record
from slipstream.doctor.diagnosis import diagnose
from slipstream.doctor.evidence import gather
from slipstream.doctor.outcome import is_clients_fault, outcome, span_of, took
from slipstream.doctor.rehearsal import asked_of
from slipstream.doctor.symptoms import symptoms
from slipstream.doctor.verify_live import compare_live

WEST = {"east": times(0.06, 0.004), "west": times(0.06, 0.02)}
GOOD, KNOWN = happened(asks(300, 10), WEST)


def refused(record: Record, status: int, name: str, **more: object) -> Record:
    """A request that came with that one, and was refused in 0.3 ms."""
    plain = Record(
        id=name,
        arrived_wall_ns=record.arrived_wall_ns + 1_000,
        route=record.route,
        model_asked="mistyped",
        duration_ns=300_000,
        outcome="refused",
        status=status,
    )
    return replace(plain, **more)


def mistyped(records: Sequence[Record], count: int) -> list[Record]:
    """The same traffic with some more among it that ask for a model that there is not."""
    more = [refused(records[at * 17 % len(records)], 404, f"x{at}") for at in range(count)]
    return sorted([*records, *more], key=lambda record: record.arrived_wall_ns)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, len(GOOD) - 2), st.sampled_from((400, 401, 403, 404, 405, 413, 415, 422))),
        max_size=400,
    )
)
def test_they_move_no_figure(faults: list[tuple[int, int]]) -> None:
    """However many, wherever among the others: what is told of the others is the same, to the last digit."""
    more = [refused(GOOD[at], status, f"x{number}") for number, (at, status) in enumerate(faults)]
    mixed = sorted([*GOOD, *more], key=lambda record: record.arrived_wall_ns)

    assert outcome(took(mixed)) == outcome(took(GOOD))
    assert span_of(took(mixed)) == span_of(took(GOOD))
    assert asked_of(gather(mixed, KNOWN)) == asked_of(gather(GOOD, KNOWN))


@pytest.mark.parametrize(
    ("record", "is_theirs"),
    [
        (refused(GOOD[0], 404, "a"), True),
        (refused(GOOD[0], 400, "b", upstream="east"), True),
        (refused(GOOD[0], 408, "too slow a body"), True),
        (refused(GOOD[0], 408, "too slow an answer", upstream="east"), False),
        (refused(GOOD[0], 401, "our key there", upstream="east"), False),
        (refused(GOOD[0], 400, "our context", upstream="local", error_code="context_length_exceeded"), False),
        (refused(GOOD[0], 429, "c"), False),
        (replace(GOOD[0], outcome="failed", status=502), False),
        (GOOD[0], False),
    ],
    ids=lambda value: value.id if isinstance(value, Record) else "",
)
def test_whose_fault_it_is(record: Record, is_theirs: bool) -> None:
    """The client's: what it asked for, and with which key. Not what a setting or an upstream has to do with."""
    assert is_clients_fault(record) is is_theirs


@pytest.mark.parametrize("count", [16, 50])
def test_the_fix_is_advised_all_the_same(count: int) -> None:
    """Beside 5 % and 14 % of mistyped models: the same cause, the same setting, the same gain."""
    alone = diagnose(gather(GOOD, KNOWN), replays=2)
    beside = diagnose(gather(mistyped(GOOD, count), KNOWN), replays=2)
    assert alone.causes[0].advice is not None
    assert beside.causes[0].advice is not None
    told, other = alone.causes[0].advice, beside.causes[0].advice

    assert beside.verdict == alone.verdict
    assert other.fix == told.fix
    assert told.fix.setting == "models.upstreams.west.weight"
    assert told.prediction is not None
    assert other.prediction == told.prediction
    assert told.prediction.gain > 0.3


@pytest.mark.parametrize("count", [13, 200])
def test_a_healthy_server_stays_well(count: int) -> None:
    """5 % and 44 % of mistyped models, the latter up to half-time only: no cause, and no symptom."""
    well, known = happened(asks(250, 12), {"east": times(), "west": times()})
    mixed = mistyped(well, 13) if count == 13 else sorted(
        [*well, *(refused(well[at % 120], 404, f"x{at}") for at in range(count))],
        key=lambda record: record.arrived_wall_ns,
    )  # fmt: skip
    given_ = gather(mixed, known)

    assert symptoms(given_) == ()
    assert diagnose(given_, replays=1).causes == ()


def test_live_traffic_is_judged_without_them() -> None:
    """Every tenth request is a client's fault on both sides: a fix that helps is kept."""
    state = {"is_fixed": False}
    switched: list[tuple[int, bool]] = []

    async def switch(is_fixed: bool) -> None:
        state["is_fixed"] = is_fixed
        switched.append((clock.wall_ns(), is_fixed))

    async def recorded(since_ns: int, until_ns: int) -> list[Record]:
        in_force = [is_fixed for at_ns, is_fixed in switched if at_ns <= since_ns][-1]
        step = (until_ns - since_ns) // 30
        return [
            refused(GOOD[0], 404, f"x{at}", arrived_wall_ns=since_ns + at * step)
            if at % 10 == 0
            else replace(
                GOOD[0],
                arrived_wall_ns=since_ns + at * step,
                duration_ns=round((0.4 if in_force else 1.0) * (1 + at / 100) * 1e9),
            )
            for at in range(30)
        ]

    async def oldest() -> float:
        return 0.0

    done = asyncio.run(compare_live(0.3, switch, recorded, oldest))

    assert done.is_kept, done.verdict
    assert done.without.failed_share == 0.0
    assert done.gain == pytest.approx(0.6, abs=0.05)


def test_where_nothing_else_came_nothing_is_said() -> None:
    """A window of nothing but faults has no figures, and breaks nothing."""
    faults = [
        refused(GOOD[0], 404, f"x{at}", arrived_wall_ns=GOOD[0].arrived_wall_ns + at) for at in range(60)
    ]
    found = diagnose(gather(faults, Settings()), replays=1)

    assert (found.causes, found.symptoms) == ((), ())
