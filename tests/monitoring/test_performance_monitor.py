"""`PerformanceMonitor` alone: what it measures, carries and counts. Beside a server: tests/e2e."""

import asyncio
import threading

import pytest

from slipstream.core.readings import Readings
from slipstream.monitoring.own_process import OWN_PROCESS
from slipstream.monitoring.performance_monitor import PerformanceMonitor
from slipstream.monitoring.values import ResponseTime


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of this machine is found."""
    monkeypatch.setenv("SLIPSTREAM__STATE_FOLDER", str(tmp_path_factory.mktemp("state")))


def counted(name: str, metric: str = "app_calls") -> float:
    """How many calls of functions of that name, defined in any of these tests, were counted."""

    def ask(seen: Readings) -> float:
        names = [labels for labels in seen.label_sets(metric) if labels["name"].endswith(f".{name}")]
        return sum(seen.total(metric, labels) or 0 for labels in names)

    return OWN_PROCESS.read(ask, fresh=True)


def test_time_carries_the_result() -> None:
    """A float in ms, and beside it what the call returned."""
    took = PerformanceMonitor().measure_response_time(lambda: threading.Event().wait(0.02) or "answer")

    assert isinstance(took, ResponseTime)
    assert took >= 20
    assert took.result == "answer"
    assert f"{took:.1f}" == str(round(float(took), 1))


def test_coroutine_is_run_outside_a_loop() -> None:
    """What returns an awaitable is run to its end where no loop runs."""

    async def answer() -> str:
        await asyncio.sleep(0.02)
        return "late"

    took = PerformanceMonitor().measure_response_time(answer)

    assert took.result == "late"
    assert took >= 20


def test_coroutine_is_awaited_on_a_loop() -> None:
    """On a running loop the caller awaits it; one object serves two loops and a thread."""
    monitor = PerformanceMonitor()

    async def main() -> str:
        took = await monitor.measure_response_time(lambda: asyncio.sleep(0.02, "late"))
        assert took >= 20
        return took.result

    results = [asyncio.run(main()), asyncio.run(main())]
    thread = threading.Thread(target=lambda: results.append(asyncio.run(main())))
    thread.start()
    thread.join()

    assert results == ["late"] * 3


def test_errors_are_counted_and_raised_again() -> None:
    """The caller gets its own exception, and the call counts as failed, sync or not."""
    monitor = PerformanceMonitor()

    def breaks() -> None:
        raise KeyError("mine")

    async def breaks_later() -> None:
        await asyncio.sleep(0)
        raise KeyError("mine")

    for each in (breaks, breaks_later):
        with pytest.raises(KeyError, match="mine"):
            monitor.measure_response_time(each)

    for name in ("breaks", "breaks_later"):
        assert (counted(name), counted(name, "app_errors")) == (1, 1)


def test_cancelled_call_is_not_counted() -> None:
    """Cancellation passes through and is no error of the call."""
    monitor = PerformanceMonitor()

    async def cancelled() -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        task = asyncio.ensure_future(monitor.measure_response_time(cancelled))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert counted("cancelled") == 0


def test_measured_call_is_in_the_next_summary() -> None:
    """Right after a call the numbers have it, on a loop too when waited for."""
    monitor = PerformanceMonitor()
    monitor.measure_response_time(lambda: None)
    before = monitor.summary().app
    assert before is not None
    monitor.measure_response_time(lambda: None)
    after = asyncio.run(monitor.asummary()).app
    assert after is not None
    assert after.count == before.count + 1


def test_getters_alone() -> None:
    """Resources of this process are told; of requests, tokens and caches nothing was seen: None."""
    monitor = PerformanceMonitor()
    cpu, memory, disk, network = (
        monitor.get_cpu_usage(), monitor.get_memory_usage(), monitor.get_disk_io(), monitor.get_network_io(),
    )  # fmt: skip

    assert cpu is not None
    assert cpu >= 0
    assert memory is not None
    assert 0 < memory < 100
    assert memory.host is not None
    assert disk is None or disk.read_per_second >= 0
    assert network is None or network.received_total >= 0
    assert monitor.get_cache_hit_rate() is None
    assert monitor.summary().source == "process"


def test_getters_do_not_wait_on_a_loop() -> None:
    """On an event loop a getter answers from what was seen last, and waits for no measured call."""
    monitor = PerformanceMonitor()

    async def main() -> None:
        frame = OWN_PROCESS.read(lambda seen: seen.now_wall_ns(), fresh=True)
        monitor.measure_response_time(lambda: None)
        summary = monitor.summary()
        assert monitor._stale
        assert summary.wall_ns >= frame

    monitor.summary()
    asyncio.run(main())
    monitor.summary()
    assert not monitor._stale
