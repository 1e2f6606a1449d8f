"""What requests waited for: the loop, where others held it; a connection, where they queued for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.record import QUEUE, Record, Step
from slipstream.profiling.recorded import StepsReport, steps_report
from slipstream.profiling.stalls import Holder, Stall
from slipstream.profiling.waits import Surroundings, held

MS = 1_000_000
ARRIVED_NS = 1_700_000_000_000_000_000


def request(*, upstream: str = "far") -> Record:
    """Waits 20 ms for a connection and 80 ms for its upstream's head, then relays for 100 ms."""
    return Record(
        id="req_waiting",
        route="chat/completions",
        upstream=upstream,
        arrived_wall_ns=ARRIVED_NS,
        duration_ns=200 * MS,
        steps=[
            Step("open", 0, 100 * MS),
            Step(QUEUE, 0, 20 * MS),
            Step("relay", 100 * MS, 100 * MS),
        ],
    )


def stall(start_ms: int, end_ms: int, task: str, **more: object) -> Stall:
    """The loop stands still, in milliseconds since the request came."""
    wall_ns = ARRIVED_NS + end_ms * MS
    return Stall(wall_ns, (end_ms - start_ms) / 1e3, (), task, None, **more)  # type: ignore[arg-type]


def told(*stalls: Stall, process: str = "worker 0", upstream: str = "far") -> StepsReport:
    """The report of that request, served by worker 0, while the loop of a process stood still."""
    stretches = [held(process, each) for each in stalls]
    around = Surroundings(stretches, process_of=lambda record: "worker 0", pooled={"far"})
    return steps_report([request(upstream=upstream)], surroundings=around)


def test_whom_another_request_held_up_waited_for_the_loop() -> None:
    """Half of the relaying lay in a stall: the upstream had long answered. Steps keep their share."""
    report, undisturbed = told(stall(150, 250, "req_burner")), told()

    assert report.waits == pytest.approx({"upstream": 0.65, "loop": 0.25, "pool": 0.1})
    assert report.rows == undisturbed.rows
    assert undisturbed.waits == pytest.approx({"upstream": 0.9, "pool": 0.1})


def test_a_stall_of_nobody_is_waited_out_too() -> None:
    """The process was not given the CPU, or a task of the server held the loop."""
    assert told(stall(100, 150, "")).waits["loop"] == pytest.approx(0.25)
    assert told(stall(100, 150, "control server")).waits["loop"] == pytest.approx(0.25)


def test_whoever_held_the_loop_did_not_wait_for_it() -> None:
    """Its own stall is what its step says."""
    assert "loop" not in told(stall(100, 200, "req_waiting")).waits


def test_a_garbage_collection_is_nobodys() -> None:
    """Also for the request that it struck."""
    assert told(stall(100, 200, "req_waiting", kind="gc")).waits["loop"] == pytest.approx(0.5)


def test_of_a_stall_of_several_each_waited_for_the_others_part() -> None:
    """A request that held the loop for a quarter of it waited for the rest."""
    seen = stall(100, 200, "req_burner", share=0.75, also=(Holder("req_waiting", (), 0.025),))

    assert told(seen).waits["loop"] == pytest.approx(0.375)


def test_a_collection_within_a_stall_is_counted_once() -> None:
    """Both are told, and it is the same time."""
    seen = (stall(100, 200, "req_burner"), stall(120, 160, "req_burner", kind="gc"))

    assert told(*seen).waits["loop"] == pytest.approx(0.5)


def test_the_stall_of_another_process_held_nobody_up_here() -> None:
    """Every worker has a loop of its own."""
    assert "loop" not in told(stall(0, 200, "req_burner"), process="worker 1").waits


def test_a_queue_for_a_connection_is_the_pools() -> None:
    """At an upstream that is reached through a pool; elsewhere a request queues for a slot of the model."""
    assert told().waits["pool"] == pytest.approx(0.1)
    assert told(upstream="local").waits["queue"] == pytest.approx(0.1)


def test_of_whom_the_process_is_not_known_is_said() -> None:
    """Steps say then what they say; how many such requests there are is told."""
    report = steps_report([request()], surroundings=Surroundings([held("worker 0", stall(0, 200, "req_b"))]))

    assert report.unplaced == 1
    assert "loop" not in report.waits
    assert told().unplaced == 0


STALLS = st.builds(
    stall,
    st.integers(-50, 100),
    st.integers(101, 300),
    st.sampled_from(("", "req_waiting", "req_burner")),
    kind=st.sampled_from(("loop", "gc")),
    share=st.floats(0, 1),
)


@given(st.lists(STALLS, max_size=8))
def test_what_was_waited_for_adds_up(stalls: list[Stall]) -> None:
    """Whatever stalls there were, and however they overlap."""
    waits = told(*stalls).waits

    assert sum(waits.values()) == pytest.approx(1.0)
    assert all(0 <= share <= 1 for share in waits.values())


def test_a_function_that_many_tasks_ran_was_held_by_each_for_its_turn() -> None:
    """The one that is named waited for the others as they did for it."""
    seen = Stall(10**9, 1.0, (), "req_a", 3, "loop", 1.0, (), 4)

    assert held("worker 0", seen).parts == {"req_a": 0.25}
