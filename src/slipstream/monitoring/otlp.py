"""Metrics and requests as OTLP messages, under the names of `semconv`. Sends nothing.

Metrics are cumulative since the server's start; histograms are exponential ones of our own resolution.
A request becomes one span with a child for each step of its way; never a word of its text.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from slipstream.core import histogram
from slipstream.core.histogram import Sketch
from slipstream.core.metrics import METRICS, RECORDED, Metric
from slipstream.core.readings import Labels, Readings
from slipstream.core.record import Record
from slipstream.monitoring import otlp_wire, prometheus, semconv
from slipstream.monitoring.protobuf import Message
from slipstream.monitoring.semconv import CONVENTIONS, Convention

TEXT_MAX = 256
"""Longest text of an attribute: the names of models come from callers."""


def metrics_message(readings: Readings, resource: Mapping[str, object], start_ns: int) -> Message:
    """All metrics of which anything was seen; `start_ns` is the wall clock when counting began."""
    times = {"start_time_unix_nano": start_ns, "time_unix_nano": max(readings.now_wall_ns(), start_ns)}
    found = [*_conventional(readings, times), *_own(readings, times)]
    return {
        "resource_metrics": [{"resource": _resource(resource), "scope_metrics": [_scope("metrics", found)]}]
    }


def traces_message(records: Iterable[Record], resource: Mapping[str, object]) -> Message:
    """Closed records as spans."""
    spans = [span for record in records for span in _spans(record)]
    return {"resource_spans": [{"resource": _resource(resource), "scope_spans": [_scope("spans", spans)]}]}


def _scope(kind: str, found: Sequence[Message]) -> Message:
    return {"scope": {"name": "slipstream"}, kind: found, "schema_url": semconv.SCHEMA_URL}


def _conventional(readings: Readings, times: Message) -> Iterator[Message]:
    """What the conventions have a name for; of one name all points are in one metric."""
    known = _known(readings)
    points: dict[str, list[Message]] = {}
    about: dict[str, Convention] = {}
    for convention in CONVENTIONS:
        for labels in readings.label_sets(convention.metric):
            if not _covers(convention, labels):
                continue
            own = _attributes({k: v for k, v in labels.items() if k not in dict(convention.series)})
            shown = {**known.get(labels.get("model", ""), {}), **own}
            for name in semconv.names_of(convention):
                more = dict(convention.attributes) if name == convention.name else {}
                point = _exponential(readings, convention.metric, labels, convention.factor)
                if point is not None:
                    about[name] = convention
                    points.setdefault(name, []).append(
                        {**times, **point, "attributes": _pairs({**shown, **more})}
                    )
    for name, each in points.items():
        metric = METRICS[about[name].metric]
        yield _histogram(name, metric.help, about[name].unit, each)


def _own(readings: Readings, times: Message) -> Iterator[Message]:
    """Everything else, under names of our own."""
    for metric in RECORDED:
        exported = semconv.exported(metric)
        points = [
            {**times, **value, "attributes": _pairs(_attributes(labels))}
            for labels in readings.label_sets(metric.name)
            if not any(each.metric == metric.name and _covers(each, labels) for each in CONVENTIONS)
            if (value := _value(readings, metric, labels, exported.factor)) is not None
        ]
        if not points:
            continue
        if metric.kind == "histogram":
            yield _histogram(exported.otel, metric.help, exported.unit, points)
            continue
        kind: Message = {"data_points": points}
        if metric.kind == "counter":
            kind = {**kind, "aggregation_temporality": otlp_wire.CUMULATIVE, "is_monotonic": True}
        name = "sum" if metric.kind == "counter" else "gauge"
        yield {"name": exported.otel, "description": metric.help, "unit": exported.unit, name: kind}


def _covers(convention: Convention, labels: Labels) -> bool:
    return all(labels.get(name) == value for name, value in convention.series)


def _known(readings: Readings) -> dict[str, dict[str, str]]:
    """Of each model what the conventions ask for, as far as it is the same for all of its requests."""
    routes: dict[str, set[tuple[str, str]]] = {}
    for labels in readings.label_sets("requests"):
        routes.setdefault(labels["model"], set()).add((labels["route"], labels["upstream"]))
    known: dict[str, dict[str, str]] = {}
    for model, pairs in routes.items():
        operations = {semconv.operation(route) for route, _ in pairs}
        providers = {semconv.provider(upstream) for _, upstream in pairs if upstream}
        known[model] = {}
        if len(operations) == 1:
            known[model]["gen_ai.operation.name"] = operations.pop()
        if len(providers) == 1:
            known[model]["gen_ai.provider.name"] = providers.pop()
    return known


def _value(readings: Readings, metric: Metric, labels: Labels, factor: float) -> Message | None:
    if metric.kind == "histogram":
        return _exponential(readings, metric.name, labels, factor)
    read = readings.total if metric.kind == "counter" else readings.gauge
    value = read(metric.name, labels)
    return None if value is None else {"as_double": value * factor}


def _exponential(readings: Readings, name: str, labels: Labels, factor: float) -> Message | None:
    found = readings.sketch_total(name, labels)
    if found is None:
        return None
    sketch = Sketch(found.buckets, found.total, found.scale / factor)
    zeros, counts = prometheus.exponential(sketch)
    point: dict[str, object] = {
        "count": sketch.count,
        "sum": sketch.sum,
        "scale": histogram.SCALE,
        "zero_count": zeros,
        "zero_threshold": prometheus.zero_threshold(sketch),
    }
    if counts:
        first, last = min(counts), max(counts)
        dense = [counts.get(index, 0) for index in range(first, last + 1)]
        point["positive"] = {"offset": first, "bucket_counts": dense}
    return point


def _histogram(name: str, about: str, unit: str, points: Sequence[Message]) -> Message:
    kind = {"data_points": points, "aggregation_temporality": otlp_wire.CUMULATIVE}
    return {"name": name, "description": about, "unit": unit, "exponential_histogram": kind}


def _spans(record: Record) -> Iterator[Message]:
    trace_id = hashlib.sha256(record.id.encode()).digest()
    parent = trace_id[16:24]
    operation = semconv.operation(record.route)
    root: dict[str, object] = {
        "trace_id": trace_id[:16],
        "span_id": parent,
        "name": f"{operation} {record.model_asked or record.model}".strip()[:TEXT_MAX],
        "kind": otlp_wire.SPAN_CLIENT,
        "start_time_unix_nano": record.arrived_wall_ns,
        "end_time_unix_nano": record.arrived_wall_ns + max(0, record.duration_ns),
        "attributes": _pairs(_span_attributes(record, operation)),
    }
    if record.outcome == "failed":
        root["status"] = {"message": record.error_code or record.error_type, "code": otlp_wire.STATUS_ERROR}
    yield root
    for number, step in enumerate(record.steps):
        begun_ns = record.arrived_wall_ns + step.start_ns
        yield {
            "trace_id": trace_id[:16],
            "span_id": hashlib.sha256(f"{record.id} {number}".encode()).digest()[:8],
            "parent_span_id": parent,
            "name": step.name,
            "kind": otlp_wire.SPAN_INTERNAL,
            "start_time_unix_nano": begun_ns,
            "end_time_unix_nano": begun_ns + max(0, step.duration_ns),
        }


def _span_attributes(record: Record, operation: str) -> dict[str, object]:
    first_ns = record.first_token_ns if record.stream else None
    given: dict[str, object] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": semconv.provider(record.upstream) or None,
        "gen_ai.request.model": record.model_asked or record.model or None,
        "gen_ai.request.stream": record.stream or None,
        "gen_ai.response.model": record.model or None,
        "gen_ai.response.finish_reasons": [record.finish_reason] if record.finish_reason else None,
        "gen_ai.response.time_to_first_chunk": first_ns / 1e9 if first_ns is not None else None,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
        "http.response.status_code": record.status or None,
        "error.type": (record.error_code or record.error_type or None)
        if record.outcome in {"failed", "refused"}
        else None,
        "slipstream.request_id": record.id,
        "slipstream.outcome": record.outcome,
        "slipstream.upstream": record.upstream or None,
        "slipstream.attempts": record.attempts or None,
        "slipstream.cost_usd": record.cost,
    }
    return {name: value for name, value in given.items() if value is not None}


def _resource(attributes: Mapping[str, object]) -> Message:
    return {"attributes": _pairs(attributes)}


def _attributes(labels: Labels) -> dict[str, object]:
    return {semconv.attribute(name): value for name, value in labels.items() if value}


def _pairs(attributes: Mapping[str, object]) -> list[Message]:
    return [{"key": key, "value": _any(value)} for key, value in attributes.items()]


def _any(value: object) -> Message:
    match value:
        case bool():
            return {"bool_value": value}
        case int():
            return {"int_value": value}
        case float():
            return {"double_value": value}
        case list():
            return {"array_value": {"values": [{"string_value": each[:TEXT_MAX]} for each in value]}}
        case _:
            return {"string_value": str(value)[:TEXT_MAX]}
