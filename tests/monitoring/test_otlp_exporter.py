"""Sending OTLP to a real HTTP server: what arrives, and what happens when it does not."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.collector import Collector, collecting
from monitoring.slabs import Measured, served
from slipstream.config.settings import Otlp
from slipstream.core.errors import ConfigurationError
from slipstream.monitoring.otlp_exporter import BATCH, OtlpExporter


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    made = Measured(tmp_path)
    made.recorder.finish(served())
    made.tick()
    return made


class Sending:
    """An exporter and what it counts."""

    def __init__(self, measured: Measured, url: str, **settings: object) -> None:
        self.counts: Counter[str] = Counter()
        self.exporter = OtlpExporter(
            Otlp(url=url, timeout_seconds=5.0, **settings), measured.aggregate,
            resource={"service.name": "slipstream"}, count=lambda name, label: self.counts.update([name]),
        )  # fmt: skip


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_metrics_and_traces_arrive(
    measured: Measured, collector: Collector, encoding: str, slash: str
) -> None:
    """In either encoding the collector reads all metrics and a trace for each request."""

    async def main() -> None:
        sending = Sending(measured, collector.url + slash, encoding=encoding)
        sending.exporter.take(served(model_asked="auto"))
        await sending.exporter.aclose()
        assert sending.counts == {}

    asyncio.run(main())
    (scope,) = collector.metrics[0].resource_metrics[0].scope_metrics

    assert {"slipstream.requests", "gen_ai.server.request.duration"} <= {
        metric.name for metric in scope.metrics
    }
    assert [span.name for span in collector.spans] == ["chat auto", "open", "first_byte", "relay"]


def test_headers_of_the_environment(
    measured: Measured, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys for the collector come from a variable, decoded as OpenTelemetry writes them."""
    monkeypatch.setenv("MY_HEADERS", "Authorization=Bearer%20abc, x-scope=team%2D1")

    async def main() -> None:
        await Sending(measured, collector.url, headers_env="MY_HEADERS").exporter.aclose()

    asyncio.run(main())

    assert collector.headers[0]["authorization"] == "Bearer abc"
    assert collector.headers[0]["x-scope"] == "team-1"


@pytest.mark.parametrize("value", ["no-equals", "a b=c", "x=%0d%0aevil: 1", "=value"])
def test_headers_that_cannot_be_sent(measured: Measured, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A header that would break the request is refused at the start."""
    monkeypatch.setenv("MY_HEADERS", value)
    with pytest.raises(ConfigurationError, match="MY_HEADERS"):
        Sending(measured, "http://127.0.0.1:1", headers_env="MY_HEADERS")


def test_an_address_that_is_none_is_told_by_its_setting(measured: Measured) -> None:
    """A collector without http:// is refused at the start, with the setting to change."""
    with pytest.raises(ConfigurationError, match=r"`monitoring\.otlp\.url`.*neither http") as raised:
        OtlpExporter(Otlp(url="localhost:4318"), measured.aggregate, resource={}, count=lambda *_: None)

    assert "4318" in raised.value.hint


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_busy_collector_gets_the_same_again(measured: Measured, collector: Collector, status: int) -> None:
    """Nothing is lost to a collector that is busy; it is counted, and sent once it takes it, in order."""

    async def main() -> None:
        sending = Sending(measured, collector.url)
        for number in range(3):
            sending.exporter.take(served(model_asked=f"m{number}"))
        collector.status = status
        await sending.exporter.send_traces()
        assert (sending.counts, collector.traces) == ({"export_errors": 1}, [])
        collector.status = 200
        await sending.exporter.aclose()

    asyncio.run(main())

    assert [span.name for span in collector.spans if span.kind == 3] == ["chat m0", "chat m1", "chat m2"]


def test_refused_records_are_dropped(measured: Measured, collector: Collector) -> None:
    """What the collector refuses for good is given up and counted, so that the rest gets through."""

    async def main() -> None:
        sending = Sending(measured, collector.url)
        sending.exporter.take(served())
        collector.status = 400
        await sending.exporter.send_traces()
        assert sending.counts == {"export_errors": 1, "export_dropped": 1}
        collector.status = 200
        await sending.exporter.send_traces()

    asyncio.run(main())

    assert collector.traces == []


def test_collector_that_is_not_there(measured: Measured) -> None:
    """Without a collector the newest records wait, the oldest make room and are counted; nothing raises."""

    async def main() -> None:
        sending = Sending(measured, "http://127.0.0.1:1", trace_queue=5)
        for _ in range(8):
            sending.exporter.take(served())
        await sending.exporter.send_metrics()
        await sending.exporter.send_traces()
        assert sending.counts == {"export_errors": 2, "export_dropped": 3}
        assert len(sending.exporter._waiting) == 5
        await sending.exporter.aclose()

    asyncio.run(main())


def test_many_records_go_in_batches(measured: Measured, collector: Collector) -> None:
    """A full queue is sent in messages of a bounded size, each record once."""

    async def main() -> None:
        sending = Sending(measured, collector.url, trace_queue=4096)
        for number in range(BATCH * 2 + 10):
            sending.exporter.take(served(model_asked=f"m{number}"))
        await sending.exporter.aclose()

    asyncio.run(main())
    names = [span.name for span in collector.spans if span.kind == 3]

    assert len(collector.traces) == 3
    assert names == [f"chat m{number}" for number in range(BATCH * 2 + 10)]


def test_cancelled_sending_loses_nothing(measured: Measured, collector: Collector) -> None:
    """A batch that was under way when the exporter is stopped is sent by its last sending."""

    async def main() -> None:
        sending = Sending(measured, collector.url)
        for _ in range(3):
            sending.exporter.take(served())
        task = asyncio.create_task(sending.exporter.send_traces())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await sending.exporter.aclose()
        assert sending.counts == {}

    asyncio.run(main())

    assert len([span for span in collector.spans if span.kind == 3]) == 3


def test_traces_can_be_switched_off(measured: Measured, collector: Collector) -> None:
    """With `traces = false` no request leaves the server, only metrics do."""

    async def main() -> None:
        sending = Sending(measured, collector.url, traces=False)
        sending.exporter.take(served())
        await sending.exporter.aclose()

    asyncio.run(main())

    assert collector.traces == []
    assert len(collector.metrics) == 1
