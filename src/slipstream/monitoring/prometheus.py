"""All metrics as Prometheus reads them: text 0.0.4, or protobuf with native histograms.

Totals come from the same arrays as everything else. A histogram's counts are exact at every bound of
our buckets; at a round bound such as 0.1 s the bucket that holds it counts as a whole: what is up to
2.2 % larger may count as if it were not, and what is no larger always counts.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from slipstream.core import histogram
from slipstream.core.histogram import Sketch
from slipstream.core.metrics import RECORDED, Metric
from slipstream.core.readings import Labels, Readings
from slipstream.monitoring import semconv
from slipstream.monitoring.protobuf import Field, delimited, encode

TEXT = "text/plain; version=0.0.4; charset=utf-8"
PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

TIME_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48,
               40.96, 81.92, 163.84)  # fmt: skip
"""Seconds: the GenAI conventions' bounds, a few before and one after."""
COUNT_BOUNDS = tuple(float(4**power) for power in range(13))
"""The conventions' bounds for tokens: 1, 4, 16 … 16,777,216."""

_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Sample(Struct, frozen=True):
    """One series: its labels and its value, or the values of a histogram in the exported unit."""

    labels: Labels
    value: float = 0.0
    sketch: Sketch | None = None


class Family(Struct, frozen=True):
    """One metric with all its series, under its exported name and in its exported unit."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


def families(readings: Readings) -> Iterator[Family]:
    """Every metric of which anything was seen, and counters without labels from 0 on.

    Who computes a rate would miss the first growth of a counter that was not there before.
    """
    for metric in RECORDED:
        samples = [
            sample
            for labels in readings.label_sets(metric.name)
            if (sample := _sample(readings, metric, labels)) is not None
        ]
        if not samples and metric.kind == "counter" and not metric.labels:
            samples = [Sample({}, 0.0)]
        if samples:
            name = semconv.exported(metric).prometheus
            yield Family(name + "_total" * (metric.kind == "counter"), metric.kind, metric.help, samples)


def _sample(readings: Readings, metric: Metric, labels: Labels) -> Sample | None:
    factor = semconv.exported(metric).factor
    if metric.kind == "histogram":
        sketch = readings.sketch_total(metric.name, labels)
        if sketch is None:
            return None
        return Sample(labels, sketch=Sketch(sketch.buckets, sketch.total, sketch.scale / factor))
    read = readings.total if metric.kind == "counter" else readings.gauge
    value = read(metric.name, labels)
    return None if value is None else Sample(labels, value * factor)


def text(found: Iterable[Family]) -> bytes:
    """The text format 0.0.4, with classic buckets."""
    lines: list[str] = []
    for family in found:
        lines.append(f"# HELP {family.name} {_escaped_help(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples:
            if sample.sketch is None:
                lines.append(f"{family.name}{_written(sample.labels)} {_number(sample.value)}")
            else:
                lines += _buckets(family.name, sample.labels, sample.sketch)
    return "\n".join([*lines, ""]).encode()


def _buckets(name: str, labels: Labels, sketch: Sketch) -> Iterator[str]:
    for bound, count in cumulated(sketch, _bounds(name)):
        yield f"{name}_bucket{_written({**labels, 'le': _number(bound)})} {count}"
    yield f"{name}_bucket{_written({**labels, 'le': '+Inf'})} {sketch.count}"
    yield f"{name}_sum{_written(labels)} {_number(sketch.sum)}"
    yield f"{name}_count{_written(labels)} {sketch.count}"


def cumulated(sketch: Sketch, limits: Sequence[float]) -> Iterator[tuple[float, int]]:
    """For each of the ascending `limits` how many values are at or below it, as far as buckets can tell."""
    slots = sorted(sketch.buckets.items())
    seen = position = 0
    for limit in limits:
        last = histogram.index(limit * sketch.scale)
        while position < len(slots) and slots[position][0] <= last:
            seen += slots[position][1]
            position += 1
        yield limit, seen


def _bounds(name: str) -> Sequence[float]:
    return TIME_BOUNDS if name.endswith("_seconds") else COUNT_BOUNDS


def _written(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in labels.items()) + "}"


def _escaped_help(words: str) -> str:
    return words.replace("\\", r"\\").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


_LABEL = {"name": Field(1, "string"), "value": Field(2, "string")}
_SPAN = {"offset": Field(1, "sint64"), "length": Field(2, "uint64")}
_BUCKET = {"cumulative_count": Field(1, "uint64"), "upper_bound": Field(2, "double")}
_HISTOGRAM = {
    "sample_count": Field(1, "uint64"),
    "sample_sum": Field(2, "double"),
    "bucket": Field(3, _BUCKET, repeated=True),
    "schema": Field(5, "sint64"),
    "zero_threshold": Field(6, "double"),
    "zero_count": Field(7, "uint64"),
    "positive_span": Field(12, _SPAN, repeated=True),
    "positive_delta": Field(13, "sint64", repeated=True),
}
_VALUE = {"value": Field(1, "double")}
_METRIC = {
    "label": Field(1, _LABEL, repeated=True),
    "gauge": Field(2, _VALUE),
    "counter": Field(3, _VALUE),
    "histogram": Field(7, _HISTOGRAM),
}
_FAMILY = {
    "name": Field(1, "string"),
    "help": Field(2, "string"),
    "type": Field(3, "enum"),
    "metric": Field(4, _METRIC, repeated=True),
}
"""io.prometheus.client.MetricFamily (github.com/prometheus/client_model), as far as it is used."""
_TYPES = {"counter": 0, "gauge": 1, "histogram": 4}


def protobuf(found: Iterable[Family]) -> bytes:
    """Length-delimited families with native histograms, and classic buckets for those who keep them."""
    return b"".join(
        delimited(
            encode(
                {
                    "name": family.name,
                    "help": family.help,
                    "type": _TYPES[family.kind],
                    "metric": [_message(family, sample) for sample in family.samples],
                },
                _FAMILY,
            )
        )
        for family in found
    )


def _message(family: Family, sample: Sample) -> dict[str, object]:
    labels = [{"name": name, "value": value} for name, value in sample.labels.items()]
    if sample.sketch is None:
        return {"label": labels, family.kind: {"value": sample.value}}
    sketch = sample.sketch
    classic = [
        {"cumulative_count": count, "upper_bound": bound}
        for bound, count in cumulated(sketch, _bounds(family.name))
    ]
    return {"label": labels, "histogram": {**native(sketch), "bucket": classic}}


def native(sketch: Sketch) -> dict[str, object]:
    """A native histogram of the same resolution, schema 5.

    Its bounds are powers of 2^(1/32) of the exported unit, and so are ours: counts go over as they are.
    """
    zeros, counts = exponential(sketch)
    spans: list[dict[str, int]] = []
    deltas: list[int] = []
    following, last_count = 0, 0
    for index, count in sorted(counts.items()):
        place = index + 1  # Prometheus numbers a bucket by its upper bound, OpenTelemetry by its lower one
        if spans and place == following:
            spans[-1]["length"] += 1
        else:
            spans.append({"offset": place - following, "length": 1})
        deltas.append(count - last_count)
        following, last_count = place + 1, count
    return {
        "sample_count": sketch.count,
        "sample_sum": sketch.sum,
        "schema": histogram.SCALE,
        "zero_threshold": zero_threshold(sketch),
        "zero_count": zeros,
        "positive_span": spans,
        "positive_delta": deltas,
    }


def exponential(sketch: Sketch) -> tuple[int, dict[int, int]]:
    """What counts as zero, and counts by OpenTelemetry's index in the exported unit: (b^i, b^(i+1)]."""
    shift = round(math.log2(sketch.scale / histogram.WHOLE) * histogram.PER_OCTAVE)
    zeros, counts = 0, {}
    for slot, count in sketch.buckets.items():
        if slot < histogram.FIRST:
            zeros += count
        else:
            counts[slot - histogram.FIRST + histogram.OFFSET - shift] = count
    return zeros, counts


def zero_threshold(sketch: Sketch) -> float:
    """Values up to here count as zero, in the exported unit."""
    return float(histogram.bounds(histogram.UNDER)[1] / sketch.scale)
