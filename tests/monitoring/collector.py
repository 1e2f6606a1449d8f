"""A collector for tests: a real HTTP server that reads OTLP with OpenTelemetry's own classes."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {"/v1/metrics": ExportMetricsServiceRequest, "/v1/traces": ExportTraceServiceRequest}


class Collector:
    """What arrived, and what is answered."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.headers: list[dict[str, str]] = []
        self.metrics: list[Any] = []
        self.traces: list[Any] = []
        self.arrived = threading.Condition()

    @property
    def spans(self) -> list[Any]:
        """All spans that arrived."""
        return [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Read one message; one that cannot be read fails the connection."""
        message = KINDS[path]()
        if headers["content-type"] == "application/json":
            json_format.Parse(body, message)
        else:
            message.ParseFromString(body)
        with self.arrived:
            self.headers.append(headers)
            (self.metrics if path == "/v1/metrics" else self.traces).append(message)
            self.arrived.notify_all()

    def wait(self, seconds: float = 20.0, *, spans: int = 0, metrics: int = 0) -> None:
        """Wait until so much has arrived."""
        with self.arrived:
            come = self.arrived.wait_for(
                lambda: len(self.spans) >= spans and len(self.metrics) >= metrics, seconds
            )
        assert come, (len(self.spans), len(self.metrics))


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of the loopback address."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if collector.status == 200:
                collector.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
