"""OTLP messages, read by OpenTelemetry's own protobuf classes and by Google's JSON reader."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitoring.slabs import SECOND, WALL_NS, Measured, served
from slipstream.core.metrics import METRICS
from slipstream.core.record import Step
from slipstream.monitoring import otlp_wire, semconv
from slipstream.monitoring.otlp import metrics_message, traces_message
from slipstream.monitoring.protobuf import as_json, encode

RESOURCE = {"service.name": "slipstream", "process.pid": 7}


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    made = Measured(tmp_path)
    for ms in range(1, 101):
        made.recorder.finish(served("sim", ms))
    made.meter.observe("response_time", 5.0, "app", "")
    made.meter.set("cpu_usage", 37.5)
    made.tick()
    return made


def metrics_of(measured: Measured) -> dict[str, Any]:
    """All metrics by name, as a collector reads them."""
    message = metrics_message(measured.aggregate, RESOURCE, WALL_NS)
    request = ExportMetricsServiceRequest.FromString(encode(message, otlp_wire.METRICS))
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    assert scope.schema_url == semconv.SCHEMA_URL
    assert attributes_of(resource.resource) == {"service.name": "slipstream", "process.pid": 7}
    names = [metric.name for metric in scope.metrics]
    assert len(names) == len(set(names))
    return {metric.name: metric for metric in scope.metrics}


def attributes_of(holder: Any) -> dict[str, Any]:
    found = {}
    for each in holder.attributes:
        kind = each.value.WhichOneof("value")
        value = getattr(each.value, kind)
        found[each.key] = [one.string_value for one in value.values] if kind == "array_value" else value
    return found


def test_conventional_names(measured: Measured) -> None:
    """Latencies go by the conventions' names, in their units, with the attributes they ask for."""
    found = metrics_of(measured)
    duration = found["gen_ai.client.operation.duration"]
    (point,) = duration.exponential_histogram.data_points

    assert duration.unit == "s"
    assert duration.exponential_histogram.aggregation_temporality == 2
    assert attributes_of(point) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "llama_cpp", "gen_ai.request.model": "sim",
    }  # fmt: skip
    assert (point.count, point.scale) == (100, 5)
    assert point.sum == pytest.approx(5.05)
    assert (point.start_time_unix_nano, point.time_unix_nano) == (WALL_NS, WALL_NS + 2 * SECOND)
    assert sum(point.positive.bucket_counts) + point.zero_count == 100
    for name in ("gen_ai.server.time_to_first_token", "gen_ai.client.operation.time_per_output_chunk"):
        assert found[name].exponential_histogram.data_points[0].count == 100


def test_tokens_are_one_histogram_of_two_types(measured: Measured) -> None:
    """`gen_ai.client.token.usage` has the lengths of prompts and of answers, told apart by their type."""
    points = metrics_of(measured)["gen_ai.client.token.usage"].exponential_histogram.data_points
    types = {attributes_of(point)["gen_ai.token.type"]: point for point in points}

    assert set(types) == {"input", "output"}
    assert {name: (point.count, point.sum) for name, point in types.items()} == {
        "input": (100, measured.aggregate.total("tokens_input", {})),
        "output": (100, measured.aggregate.total("tokens_output", {})),
    }


def test_median_survives_the_way(measured: Measured) -> None:
    """The median of the sent histogram is the one that was measured, within 1.1 %."""
    (point,) = metrics_of(measured)["gen_ai.server.request.duration"].exponential_histogram.data_points
    values = [
        2 ** ((index + 0.5) / 32)
        for index, count in enumerate(point.positive.bucket_counts, point.positive.offset)
        for _ in range(count)
    ]

    assert values[49] == pytest.approx(0.050, rel=0.011)


def test_everything_else_goes_by_our_names(measured: Measured) -> None:
    """Counters are monotonic sums, gauges are gauges, percent are ratios; nothing is sent twice."""
    found = metrics_of(measured)

    assert found["slipstream.requests"].sum.is_monotonic
    assert found["slipstream.requests"].sum.data_points[0].as_double == 100
    assert found["slipstream.cpu_usage"].gauge.data_points[0].as_double == 0.375
    (app,) = found["slipstream.response_time"].exponential_histogram.data_points
    assert (app.count, attributes_of(app)) == (1, {"slipstream.source": "app"})
    assert "slipstream.ttft" not in found


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("", ["gen_ai.client.operation.duration"]),
        ("http", ["gen_ai.client.operation.duration"]),
        ("gen_ai_latest_experimental", ["gen_ai.client.inference.duration"]),
        ("http, gen_ai_dup", ["gen_ai.client.operation.duration", "gen_ai.client.inference.duration"]),
    ],
)
def test_names_by_choice(chosen: str, names: list[str]) -> None:
    """The environment's opt-in chooses between the conventions' versions."""
    convention = next(each for each in semconv.CONVENTIONS if each.metric == "response_time")

    assert list(semconv.names_of(convention, {semconv.OPT_IN: chosen})) == names


def test_conventions_are_of_declared_histograms() -> None:
    """The table names histograms that there are, with labels that they have."""
    for each in semconv.CONVENTIONS:
        assert METRICS[each.metric].kind == "histogram"
        assert set(dict(each.series)) <= set(METRICS[each.metric].labels)


def test_request_becomes_a_trace() -> None:
    """One span for the request and one below it for each step, with what the conventions name; no text."""
    record = served("sim", 100, model_asked="auto", finish_reason="stop", cost=0.5)
    message = traces_message([record], RESOURCE)
    request = ExportTraceServiceRequest.FromString(encode(message, otlp_wire.TRACES))
    root, *steps = request.resource_spans[0].scope_spans[0].spans

    assert (root.name, root.kind) == ("chat auto", 3)
    assert root.trace_id == hashlib.sha256(b"req_1").digest()[:16]
    assert root.end_time_unix_nano - root.start_time_unix_nano == 100_000_000
    told = attributes_of(root)
    assert told["gen_ai.response.model"] == "sim"
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert told["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.025)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (20, 10)
    assert told["slipstream.cost_usd"] == 0.5
    assert [step.name for step in steps] == ["open", "first_byte", "relay"]
    assert {step.parent_span_id for step in steps} == {root.span_id}
    assert {step.trace_id for step in steps} == {root.trace_id}
    assert len({step.span_id for step in steps} | {root.span_id}) == 4
    assert root.status.code == 0


def test_failed_request_is_an_error() -> None:
    """The span of a request that failed has the status and the type of its error."""
    record = served(outcome="failed", status=502, error_type="upstream_error", error_code="upstream_broke")
    record.steps.append(Step("cut", 5, -1))
    request = ExportTraceServiceRequest.FromString(encode(traces_message([record], {}), otlp_wire.TRACES))
    root, *_, cut = request.resource_spans[0].scope_spans[0].spans

    assert (root.status.code, root.status.message) == (2, "upstream_broke")
    assert attributes_of(root)["error.type"] == "upstream_broke"
    assert cut.start_time_unix_nano == cut.end_time_unix_nano


def test_json_says_the_same(measured: Measured) -> None:
    """OTLP's JSON, read by Google's reader, is the same message; ids are in hexadecimal as OTLP wants them."""
    message = metrics_message(measured.aggregate, RESOURCE, WALL_NS)
    text = json.dumps(as_json(message, otlp_wire.METRICS))
    read = json_format.Parse(text, ExportMetricsServiceRequest())
    assert read == ExportMetricsServiceRequest.FromString(encode(message, otlp_wire.METRICS))

    spans = as_json(traces_message([served()], {}), otlp_wire.TRACES)["resourceSpans"][0]["scopeSpans"][0][
        "spans"
    ]
    assert spans[0]["traceId"] == hashlib.sha256(b"req_1").hexdigest()[:32]
    assert spans[1]["parentSpanId"] == spans[0]["spanId"]
    assert spans[0]["startTimeUnixNano"] == str(WALL_NS)


def test_no_record_breaks_the_sending() -> None:
    """Whatever a record says, and however long a caller's names are, there is a message of bounded size."""
    record = served(model_asked="m" * 100_000, finish_reason="\udfff" * 1000, status=-5)
    record.duration_ns, record.arrived_wall_ns = -7, -9
    record.steps.append(Step("x", -(2**70), -(2**70)))
    written = encode(traces_message([record], {}), otlp_wire.TRACES)
    root, *_ = ExportTraceServiceRequest.FromString(written).resource_spans[0].scope_spans[0].spans

    assert len(written) < 10_000
    assert len(root.name) == 256
