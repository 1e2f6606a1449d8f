"""The exposition, read by Prometheus' own parser and by Google's protobuf."""

import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as some
from prometheus_client.parser import text_string_to_metric_families

from monitoring.slabs import Measured, served
from slipstream.core.histogram import ERROR, GAMMA, sketch_of
from slipstream.core.metrics import METRICS, RECORDED
from slipstream.monitoring import semconv
from slipstream.monitoring.prometheus import (
    PROTOBUF,
    TEXT,
    Family,
    Sample,
    cumulated,
    families,
    native,
    protobuf,
    text,
)

KINDS = {"double": 1, "uint64": 4, "sint32": 17, "sint64": 18, "uint32": 13, "string": 9, "enum": 13}
CLIENT_MODEL = {
    "LabelPair": {"name": (1, "string"), "value": (2, "string")},
    "Value": {"value": (1, "double")},
    "BucketSpan": {"offset": (1, "sint32"), "length": (2, "uint32")},
    "Bucket": {"cumulative_count": (1, "uint64"), "upper_bound": (2, "double")},
    "Histogram": {
        "sample_count": (1, "uint64"), "sample_sum": (2, "double"), "bucket": (3, "*Bucket"),
        "schema": (5, "sint32"), "zero_threshold": (6, "double"), "zero_count": (7, "uint64"),
        "positive_span": (12, "*BucketSpan"), "positive_delta": (13, "*sint64"),
    },
    "Metric": {"label": (1, "*LabelPair"), "gauge": (2, "Value"), "counter": (3, "Value"), "histogram": (7, "Histogram")},
    "MetricFamily": {"name": (1, "string"), "help": (2, "string"), "type": (3, "enum"), "metric": (4, "*Metric")},
}  # fmt: skip
"""Messages of prometheus/client_model, from its metrics.proto."""


def client_model() -> Any:
    """Google's reader for MetricFamily."""
    file = descriptor_pb2.FileDescriptorProto(
        name="metrics.proto", package="io.prometheus.client", syntax="proto2"
    )
    for name, fields in CLIENT_MODEL.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = 3 if kind.startswith("*") else 1
            added = message.field.add(name=field, number=number, label=label)
            kind = kind.lstrip("*")
            if kind in KINDS:
                added.type = KINDS[kind]
            else:
                added.type, added.type_name = 11, f".io.prometheus.client.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("io.prometheus.client.MetricFamily"))


def parsed(stream: bytes) -> dict[str, Any]:
    """The families of a stream of delimited messages, by name."""
    found, at, reader = {}, 0, client_model()
    while at < len(stream):
        length = shift = 0
        while True:
            byte = stream[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        family = reader.FromString(stream[at : at + length])
        found[family.name] = family
        at += length
    return found


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    made = Measured(tmp_path)
    for ms in range(1, 101):
        made.recorder.finish(served("sim", ms))
    made.recorder.finish(served("own", 5, outcome="failed", error_type="upstream_error", cost=0.25))
    made.meter.set("cpu_usage", 37.5)
    made.meter.set("memory_bytes", 1e8)
    made.tick()
    return made


def test_text_is_read_by_prometheus(measured: Measured) -> None:
    """Every family parses; totals, units and labels are right."""
    body = text(families(measured.aggregate)).decode()
    found = {family.name: family for family in text_string_to_metric_families(body)}
    requests = {tuple(s.labels.values()): s.value for s in found["slipstream_requests"].samples}

    assert requests == {("chat/completions", "sim", "local"): 100, ("chat/completions", "own", "local"): 1}
    assert found["slipstream_cpu_usage_ratio"].samples[0].value == 0.375
    assert found["slipstream_memory_bytes"].samples[0].value == 1e8
    assert found["slipstream_cost_usd"].samples[0].value == 0.25
    assert found["slipstream_tokens_output"].type == "counter"
    assert found["slipstream_response_time_seconds"].type == "histogram"


def test_buckets_add_up(measured: Measured) -> None:
    """Counts grow with the bound, the last is the count, and the sum is exact."""
    body = text(families(measured.aggregate)).decode()
    found = {family.name: family for family in text_string_to_metric_families(body)}
    samples = [s for s in found["slipstream_response_time_seconds"].samples if s.labels["model"] == "sim"]
    counts = [s.value for s in samples if s.name.endswith("_bucket")]
    at_100ms = next(s.value for s in samples if s.labels.get("le") == "0.16")

    assert counts == sorted(counts)
    assert counts[-1] == at_100ms == 100
    assert next(s.value for s in samples if s.name.endswith("_count")) == 100
    assert next(s.value for s in samples if s.name.endswith("_sum")) == pytest.approx(5.05)


def test_protobuf_is_read_by_google(measured: Measured) -> None:
    """The same totals, and a native histogram whose counts add up."""
    found = parsed(protobuf(families(measured.aggregate)))
    body = text(families(measured.aggregate)).decode()

    assert {name.removesuffix("_total") for name in found} == {
        f.name for f in text_string_to_metric_families(body)
    }
    assert found["slipstream_requests_total"].metric[0].counter.value == 100
    assert found["slipstream_cpu_usage_ratio"].metric[0].gauge.value == 0.375
    family = found["slipstream_response_time_seconds"]
    assert family.type == 4
    histogram = family.metric[0].histogram
    assert (histogram.sample_count, histogram.schema) == (100, 5)
    assert sum(span.length for span in histogram.positive_span) == len(histogram.positive_delta)
    assert sum(counts_of(histogram).values()) + histogram.zero_count == 100


def counts_of(histogram: Any) -> dict[int, int]:
    """A native histogram's buckets by Prometheus' index: (2^((i-1)/32), 2^(i/32)]."""
    deltas = iter(histogram.positive_delta)
    index = count = 0
    counts = {}
    for position, span in enumerate(histogram.positive_span):
        index = span.offset if position == 0 else index + span.offset
        for _ in range(span.length):
            count += next(deltas)
            counts[index] = count
            index += 1
    return counts


@given(some.lists(some.floats(1e-3, 1e6), min_size=1, max_size=200))
def test_native_histogram_is_true(values: list[float]) -> None:
    """Each value of a native histogram in seconds is within 1.1 % of the one that was measured in ms."""
    sketch = sketch_of((value / 1000 for value in values), 1e9)
    message = native(sketch)
    stream = protobuf([Family("x_seconds", "histogram", "x", [Sample({}, sketch=sketch)])])
    told = sorted(
        2 ** (index / 32) * 2 / (1 + GAMMA)  # what is furthest from no value of the bucket
        for index, count in counts_of(parsed(stream)["x_seconds"].metric[0].histogram).items()
        for _ in range(count)
    )

    assert message["sample_count"] == len(values)
    assert message["zero_count"] == 0
    for seen, meant in zip(told, sorted(values), strict=True):
        assert seen == pytest.approx(meant / 1000, rel=ERROR * 1.0001)


@given(some.lists(some.floats(0, 16e6), max_size=100), some.integers(-10, 13))
def test_at_its_own_bounds_a_histogram_is_exact(values: list[float], power: int) -> None:
    """At half a second, a second, two … exactly those are counted that are no larger."""
    bound = 2.0**power
    ((_, count),) = cumulated(sketch_of(values, 1e6), [bound * 1000])

    assert count == sum(value <= bound * 1000 for value in values)


@given(some.lists(some.floats(0, 1e5), max_size=100), some.floats(1e-3, 1e4))
def test_no_value_below_a_bound_is_missed(values: list[float], bound: float) -> None:
    """At a bound at least what is no larger is counted, and at most what is 2.2 % larger."""
    ((_, count),) = cumulated(sketch_of(values, 1e6), [bound])

    assert sum(value <= bound for value in values) <= count
    assert count <= sum(value <= bound * (1 + 2 * ERROR) * 1.0001 for value in values)


def test_labels_are_escaped() -> None:
    """A label of a caller's making cannot end its line."""
    label = 'a"b\\c\nslipstream_requests_total 5'
    body = text(
        [Family("x_total", "counter", "Line one.\nTwo \\.", [Sample({"model": label}, 1.0)])]
    ).decode()
    (family,) = text_string_to_metric_families(body)

    assert family.samples[0].labels == {"model": label}
    assert body.count("\n") == 3


def test_nothing_seen_is_nothing_told(tmp_path: Path) -> None:
    """A metric of which nothing was seen is left out, instead of a 0 that was never measured."""
    body = text(families(Measured(tmp_path).aggregate)).decode()

    assert "cost" not in body
    assert "cpu_usage" not in body


def test_a_counter_without_labels_begins_at_zero(tmp_path: Path) -> None:
    """It is there before anything is counted: who computes a rate does not miss its first growth."""
    body = text(families(Measured(tmp_path).aggregate)).decode()

    assert "\nslipstream_requests_failed_total 0\n" in body
    assert "\nslipstream_requests_total" not in body


def test_every_metric_has_one_name() -> None:
    """Exported names are valid, unique and end in their unit."""
    names = [semconv.exported(metric).prometheus for metric in RECORDED]

    assert len(set(names)) == len(names)
    assert all(name.replace("_", "a").isalnum() and name.isascii() for name in names)
    assert semconv.exported(METRICS["ttft"]).prometheus == "slipstream_ttft_seconds"
    assert semconv.exported(METRICS["disk_read_bytes"]).prometheus == "slipstream_disk_read_bytes"


def test_content_types() -> None:
    """They are those that Prometheus asks for."""
    assert "version=0.0.4" in TEXT
    assert "io.prometheus.client.MetricFamily" in PROTOBUF
    assert math.isclose(semconv.exported(METRICS["cpu_usage"]).factor, 0.01)
