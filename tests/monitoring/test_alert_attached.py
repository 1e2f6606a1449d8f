"""`PerformanceAlerts` of a process alone: its rules are watched of its own readings. Beside a server: tests/e2e."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.core.errors import BadRequest
from slipstream.monitoring.conditions.mistakes import ConditionError
from slipstream.monitoring.performance_alerts import PerformanceAlerts
from slipstream.monitoring.performance_monitor import PerformanceMonitor


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PerformanceAlerts]:
    """No server lives in this state folder."""
    monkeypatch.setenv("SLIPSTREAM__STATE_FOLDER", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    alerts = PerformanceAlerts(owner=tmp_path.name)
    yield alerts
    for view in alerts.check():
        alerts.remove_alert(view.name)


@pytest.mark.long
def test_own_calls_fire_a_rule(alone: PerformanceAlerts) -> None:
    """What this process measures of itself fires a rule of its own, is in its history, and clears."""
    view = alone.add_alert("Slow", 'max(response_time{source="app"}, 3s) > 1 ms', "critical")
    assert view.expanded == 'max of response_time{source="app"} over 3 s > 1 ms'
    monitor = PerformanceMonitor()
    deadline = time.monotonic() + 30
    while alone.check()[0].phase != "firing":
        monitor.measure_response_time(lambda: time.sleep(0.01))
        assert time.monotonic() < deadline
    while alone.check()[0].phase != "resolved":
        assert time.monotonic() < deadline

    assert [event.phase for event in alone.history()] == ["resolved", "firing"]


def test_same_name_is_the_same_rule(alone: PerformanceAlerts) -> None:
    """Adding twice changes nothing; another owner's rule of the same name is another."""
    other = PerformanceAlerts(owner=alone._owner + "2")
    for alerts in (alone, alone, other):
        alerts.add_alert("Busy", "in_flight > 1000000")

    assert [len(alone.check()), len(other.check())] == [1, 1]
    other.remove_alert("Busy")
    with pytest.raises(BadRequest, match="There is no rule 'Busy'"):
        other.remove_alert("Busy")


def test_mistake_is_pointed_at(alone: PerformanceAlerts) -> None:
    """A mistake is raised where it is written, with its place; nothing is added."""
    with pytest.raises(ConditionError, match="Did you mean `response_time`") as raised:
        alone.add_alert("Slow", "response_tme > 5000")
    with pytest.raises(BadRequest, match="info, warning, critical"):
        alone.add_alert("Slow", "response_time > 5000", "terrible")  # type: ignore[arg-type]

    assert raised.value.position == 0
    assert alone.check() == []


def test_condition_is_tried_without_a_rule(alone: PerformanceAlerts) -> None:
    """`test` says what a condition means and what it says now."""
    said = alone.test("last(memory_bytes) > 1 KB")

    assert (said.expanded, said.fires) == ("last of memory_bytes > 1 KB", True)
    assert said.value.split()[-1] in {"MB", "GB"}


def test_two_loops_and_a_thread(alone: PerformanceAlerts) -> None:
    """One object works under two event loops and from a thread."""
    alone.add_alert("Busy", "in_flight > 1000000")

    async def look() -> str:
        return alone.check()[0].name

    async def in_thread() -> str:
        return (await asyncio.to_thread(alone.check))[0].name

    assert [asyncio.run(look()), asyncio.run(look()), asyncio.run(in_thread())] == ["Busy"] * 3
