"""A running server sends its metrics and requests to a collector, and tells what its upstream tells."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.serving import Serving, end, serving
from monitoring.collector import Collector, collecting

VLLM = b"""\
vllm:num_requests_running{engine="0"} 3.0
vllm:num_requests_waiting{engine="0"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


@pytest.fixture
def upstream() -> Iterator[str]:
    """A server that has vLLM's metrics and nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.send_header("content-length", str(len(VLLM)))
            self.end_headers()
            self.wfile.write(VLLM)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def gauges(server: Serving) -> dict[str, float]:
    body = server.get("/metrics")[1].decode()
    return {
        family.name: family.samples[0].value
        for family in text_string_to_metric_families(body)
        if family.name.startswith("slipstream_upstream")
    }


@pytest.mark.long
def test_requests_and_metrics_reach_a_collector(
    collector: Collector, upstream: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each request is one trace, metrics come with their totals, and what is left is sent at the end."""
    with serving(
        tmp_path_factory.mktemp("otlp"),
        SLIPSTREAM__MONITORING__OTLP__URL=collector.url,
        SLIPSTREAM__MONITORING__OTLP__INTERVAL_SECONDS="3600",
        SLIPSTREAM__MONITORING__SCRAPE_SECONDS="0.5",
        SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS="6",
        SLIPSTREAM__MODELS__UPSTREAMS__BOX__URL=upstream,
        SLIPSTREAM__MODELS__UPSTREAMS__BOX__MODELS='["llama"]',
        SLIPSTREAM__MODELS__EMBEDDER__ENABLED="off",
    ) as server:
        for _ in range(5):
            server.ask("Hello", model="sim")
        collector.wait(spans=5)
        server.json("/_slipstream/metrics/summary?fresh=1")
        told = gauges(server)
        server.ask("The last one", model="sim")
        end(server.process)

    roots = [span for span in collector.spans if span.name == "chat sim"]
    assert len(roots) == len({span.trace_id for span in roots}) == 6
    ((scope,),) = [resource.scope_metrics for resource in collector.metrics[-1].resource_metrics]
    requests = next(metric for metric in scope.metrics if metric.name == "slipstream.requests")
    assert sum(point.as_double for point in requests.sum.data_points) == 6
    assert told["slipstream_upstream_running"] == 3
    assert told["slipstream_upstream_waiting"] == 2
    assert told["slipstream_upstream_kv_cache_usage_ratio"] == 0.5


def test_a_wrong_collector_is_told_at_the_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A URL that is none keeps the server from starting, with a word on what to change."""
    folder = tmp_path_factory.mktemp("wrong")
    with (
        pytest.raises(AssertionError, match="error: "),
        serving(folder, SLIPSTREAM__MONITORING__OTLP__URL="collector:4318"),
    ):
        pass


@pytest.mark.long
def test_a_dead_collector_harms_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Requests are answered, the failure is counted, and the server ends in time."""
    with serving(
        tmp_path_factory.mktemp("dead"),
        SLIPSTREAM__MONITORING__OTLP__URL="http://127.0.0.1:1",
        SLIPSTREAM__MONITORING__OTLP__INTERVAL_SECONDS="0.2",
        SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS="6",
        SLIPSTREAM__MODELS__EMBEDDER__ENABLED="off",
    ) as server:
        assert server.ask("Hello", model="sim") > 0
        for _ in range(3):
            server.json("/_slipstream/metrics/summary?fresh=1")
        assert b'slipstream_export_errors_total{exporter="otlp"}' in server.get("/metrics")[1]
        assert end(server.process) == 0
