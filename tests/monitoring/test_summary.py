"""The summary: None for what was not seen, and the numbers of what was."""

from pathlib import Path

import msgspec
import pytest

from monitoring.slabs import Measured, served
from slipstream.core.record import Record
from slipstream.monitoring.resources import ResourceReader
from slipstream.monitoring.summary import Share, Summary, Tokens, summarize


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    return Measured(tmp_path)


def test_nothing_seen_is_none(measured: Measured) -> None:
    """On a fresh start everything is None, and nothing raises."""
    seen = summarize(measured.aggregate, "server")

    assert seen == Summary(seen.wall_ns, "server")


def test_tokens_and_cost_per_model(measured: Measured) -> None:
    """Tokens are those of the records; a cost is known as far as prices are."""
    for _ in range(3):
        measured.recorder.finish(served("big", cost=0.5))
    measured.recorder.finish(served("own"))
    measured.tick()
    seen = summarize(measured.aggregate, "server")

    assert seen.tokens == Tokens(80, 40, 16, 1.5, 1)
    assert seen.tokens.total == 120
    assert seen.tokens_by_model == {"big": Tokens(60, 30, 12, 1.5, 0), "own": Tokens(20, 10, 4, None, 1)}


def test_latency_per_model(measured: Measured) -> None:
    """The p95 is that of the answers of the last minute, by model and in all."""
    for ms in range(1, 101):
        measured.recorder.finish(served("fast", ms))
        measured.recorder.finish(served("slow", ms * 10))
    measured.tick()
    seen = summarize(measured.aggregate, "server")

    assert seen.latency is not None
    assert seen.latency.count == 200
    assert seen.latency_by_model["fast"].p95 == pytest.approx(95, rel=0.011)
    assert seen.latency_by_model["slow"].p50 == pytest.approx(500, rel=0.011)
    assert seen.latency.mean == pytest.approx((50.5 + 505) / 2, rel=0.001)
    measured.tick(70)
    assert summarize(measured.aggregate, "server").latency is None


def test_rates(measured: Measured) -> None:
    """Requests and tokens a second over what was watched; failed ones as a share; hits as a share."""
    for number in range(30):
        failed = {"outcome": "failed", "error_type": "upstream_error"} if number % 10 == 0 else {}
        measured.tick(each=lambda fields=failed: measured.recorder.finish(served(**fields)))
    measured.meter.count("cache_lookups", "smart", by=8)
    measured.meter.count("cache_hits", "smart", by=2)
    measured.tick()
    seen = summarize(measured.aggregate, "server")

    assert seen.throughput == pytest.approx(1.0, rel=0.1)
    assert seen.token_throughput == pytest.approx(10.0, rel=0.1)
    assert seen.error_rate == pytest.approx(10.0)
    assert seen.cache_hit_rate == pytest.approx(0.25)


def test_app_and_gateway_are_apart(measured: Measured) -> None:
    """What a program measured of itself is no answer of a model."""
    measured.meter.observe("response_time", 42.0, "app", "")
    measured.tick()
    seen = summarize(measured.aggregate, "process")

    assert seen.latency is None
    assert seen.latency_by_model == {}
    assert seen.app is not None
    assert seen.app.p50 == pytest.approx(42.0, rel=0.011)


def test_resources(measured: Measured, tmp_path: Path) -> None:
    """CPU is an average, memory is now, both beside the machine's."""
    looks = ResourceReader(folder=tmp_path).read()
    for percent in (20.0, 40.0):
        measured.meter.set("cpu_usage", percent)
        measured.meter.set("memory_usage", looks.memory_percent)
        measured.meter.set("memory_usage_host", looks.memory_percent_host)
        measured.meter.count("disk_read_bytes", "process", by=1000)
        measured.meter.count("disk_read_bytes", "host", by=5000)
        measured.tick()
    seen = summarize(measured.aggregate, "server")

    assert seen.cpu == Share(30.0, None)
    assert seen.memory == Share(looks.memory_percent, looks.memory_percent_host)
    assert seen.disk is not None
    assert (seen.disk.inward_total, seen.disk.outward_total) == (2000, 0)
    assert seen.disk.inward_per_second > 0
    assert seen.disk_host is not None
    assert seen.disk_host.inward_total == 10_000


def test_travels_whole(measured: Measured) -> None:
    """What the server sends is what the script gets."""
    measured.recorder.finish(served(cost=1.0))
    measured.recorder.finish(Record(route="chat", outcome="refused", error_type="limit"))
    measured.tick()
    seen = summarize(measured.aggregate, "server")

    assert msgspec.json.decode(msgspec.json.encode(seen), type=Summary) == seen
