"""The oracles: their truths are right, the engine meets them, and a tool that omits would not."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.testing.load.plan import SECOND, Plan, arrivals
from slipstream.testing.load.run import RunOptions
from slipstream.testing.load.selftest import (
    SERVICE_FROZEN_NS,
    against,
    frozen_script,
    frozen_server,
    judged,
    known_queue,
    selftest,
)
from slipstream.testing.load.truths import mean_wait_seconds, of_frozen_server, of_queue

ONE = RunOptions(workers=1)
GAPS = st.lists(st.integers(0, 50), max_size=60)


@given(gaps=GAPS, service=st.integers(1, 30))
def test_the_queue_is_lindleys(gaps: list[int], service: int) -> None:
    """Each request begins when it is there and the one before it is done."""
    times = np.cumsum([0, *gaps])
    done, expected = 0, []
    for time in times.tolist():
        done = max(done, time) + service
        expected.append(done - time)

    assert of_queue(times, service_ns=service).tolist() == expected


def test_the_queue_has_the_mean_of_theory() -> None:
    """Over a long time the recursion's mean is Pollaczek and Khinchine's."""
    times = arrivals(Plan(loop="poisson", rate=70, duration_seconds=20_000, seed=3))
    waits = (of_queue(times, service_ns=SECOND // 100) - SECOND // 100) / SECOND

    assert np.isclose(waits.mean(), mean_wait_seconds(70, 0.01), rtol=0.03)
    assert mean_wait_seconds(100, 0.01) == float("inf")


@given(gaps=GAPS, service=st.integers(1, 30), after=st.integers(0, 300), length=st.integers(0, 300))
def test_the_frozen_server_does_nothing_meanwhile(
    gaps: list[int], service: int, after: int, length: int
) -> None:
    """Nothing is read and nothing answered during the freeze; all else takes its service time."""
    times = np.cumsum([0, *gaps])
    end = after + length
    expected = []
    for time in times.tolist():
        read = end if after <= time < end else time
        answered = read + service
        expected.append((end if after <= answered < end else answered) - time)

    found = of_frozen_server(times, service_ns=service, freeze_after_ns=after, freeze_ns=length)
    assert found.tolist() == expected


def test_the_engine_sees_a_frozen_server() -> None:
    """While a server stands still the tail of the response times is what theory says.

    In the best of three runs: whatever else runs on the machine can only add to a response time.
    """
    worst = []
    for _ in range(3):
        oracle = asyncio.run(frozen_server(seconds=3, options=ONE))
        assert oracle.failed == 0
        assert oracle.requests == 300
        worst.append(max(each.error for each in oracle.percentiles if each.rank >= 90))
        if worst[-1] < 0.1:
            break

    assert min(worst) < 0.1


def test_the_oracle_catches_omission() -> None:
    """Latencies of a loop that waits for each answer before it asks again fail the same oracle by far."""
    script = frozen_script(3)
    times = arrivals(Plan(loop="constant", rate=100, duration_seconds=3))
    truth = of_frozen_server(
        times,
        service_ns=SERVICE_FROZEN_NS,
        freeze_after_ns=script.freeze_after_ns,
        freeze_ns=script.freeze_ns,
    )
    closed = asyncio.run(against(script, Plan(users=5, duration_seconds=3), options=ONE))
    oracle = judged("closed", "", closed, truth)

    assert not oracle.passed
    assert {each.rank: each.error for each in oracle.percentiles}[90] > 0.5


def test_the_engine_measures_a_queue() -> None:
    """Response times of an M/D/1 queue are those of the recursion over the same arrivals."""
    oracle = asyncio.run(known_queue(seconds=2, options=ONE))

    assert oracle.failed == 0
    assert oracle.worst < 0.5


@pytest.mark.long
def test_the_self_test_is_passed() -> None:
    """All percentiles are within 2 % of the truth, at the latest in the fifth run: others use this machine too."""
    reports = []
    for _ in range(5):
        reports.append(asyncio.run(selftest(seconds=10)))
        if reports[-1].passed:
            break

    assert reports[-1].passed
    assert len(reports[-1].oracles) == 2
