"""The fields of OTLP's messages that we send (github.com/open-telemetry/opentelemetry-proto, v1)."""

from slipstream.monitoring.protobuf import Field, Schema

_TEXTS: Schema = {"values": Field(1, {"string_value": Field(1, "string")}, repeated=True)}
ANY: Schema = {
    "string_value": Field(1, "string"),
    "bool_value": Field(2, "bool"),
    "int_value": Field(3, "uint64"),
    "double_value": Field(4, "double"),
    "array_value": Field(5, _TEXTS),
}
ATTRIBUTE: Schema = {"key": Field(1, "string"), "value": Field(2, ANY)}
RESOURCE: Schema = {"attributes": Field(1, ATTRIBUTE, repeated=True)}
SCOPE: Schema = {"name": Field(1, "string"), "version": Field(2, "string")}

_NUMBER: Schema = {
    "start_time_unix_nano": Field(2, "fixed64"),
    "time_unix_nano": Field(3, "fixed64"),
    "as_double": Field(4, "double"),
    "attributes": Field(7, ATTRIBUTE, repeated=True),
}
_BUCKETS: Schema = {"offset": Field(1, "sint64"), "bucket_counts": Field(2, "uint64", repeated=True)}
_EXPONENTIAL: Schema = {
    "attributes": Field(1, ATTRIBUTE, repeated=True),
    "start_time_unix_nano": Field(2, "fixed64"),
    "time_unix_nano": Field(3, "fixed64"),
    "count": Field(4, "fixed64"),
    "sum": Field(5, "double"),
    "scale": Field(6, "sint64"),
    "zero_count": Field(7, "fixed64"),
    "positive": Field(8, _BUCKETS),
    "zero_threshold": Field(14, "double"),
}
CUMULATIVE = 2
_METRIC: Schema = {
    "name": Field(1, "string"),
    "description": Field(2, "string"),
    "unit": Field(3, "string"),
    "gauge": Field(5, {"data_points": Field(1, _NUMBER, repeated=True)}),
    "sum": Field(
        7,
        {
            "data_points": Field(1, _NUMBER, repeated=True),
            "aggregation_temporality": Field(2, "enum"),
            "is_monotonic": Field(3, "bool"),
        },
    ),
    "exponential_histogram": Field(
        10,
        {
            "data_points": Field(1, _EXPONENTIAL, repeated=True),
            "aggregation_temporality": Field(2, "enum"),
        },
    ),
}
METRICS: Schema = {
    "resource_metrics": Field(
        1,
        {
            "resource": Field(1, RESOURCE),
            "scope_metrics": Field(
                2,
                {
                    "scope": Field(1, SCOPE),
                    "metrics": Field(2, _METRIC, repeated=True),
                    "schema_url": Field(3, "string"),
                },
                repeated=True,
            ),
        },
        repeated=True,
    )
}
"""opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest"""

SPAN_INTERNAL, SPAN_CLIENT = 1, 3
STATUS_ERROR = 2
_SPAN: Schema = {
    "trace_id": Field(1, "bytes"),
    "span_id": Field(2, "bytes"),
    "parent_span_id": Field(4, "bytes"),
    "name": Field(5, "string"),
    "kind": Field(6, "enum"),
    "start_time_unix_nano": Field(7, "fixed64"),
    "end_time_unix_nano": Field(8, "fixed64"),
    "attributes": Field(9, ATTRIBUTE, repeated=True),
    "status": Field(15, {"message": Field(2, "string"), "code": Field(3, "enum")}),
}
TRACES: Schema = {
    "resource_spans": Field(
        1,
        {
            "resource": Field(1, RESOURCE),
            "scope_spans": Field(
                2,
                {
                    "scope": Field(1, SCOPE),
                    "spans": Field(2, _SPAN, repeated=True),
                    "schema_url": Field(3, "string"),
                },
                repeated=True,
            ),
        },
        repeated=True,
    )
}
"""opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest"""
