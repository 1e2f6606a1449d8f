"""Admin routes of the metrics: what there is, a past range in steps, one window up to now, the live stream.

Times are seconds since 1970, or negative for so long ago. What is asked amiss is a 400 that says what.
"""

import asyncio
import functools
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from slipstream.core.errors import BadRequest
from slipstream.core.metrics import METRICS, Metric
from slipstream.core.readings import Point, Readings, Span, derived, metric_named
from slipstream.gateway.admin_api import admin_only, json_response
from slipstream.monitoring.live import sketch_json

STEPS_MAX = 5000
"""Most steps of one answer; a screen has fewer pixels."""
GROUPS_MAX = 64
"""Most groups of one answer."""
RANGE_SECONDS = 3600.0
STEPS = 240
"""The range and about how many steps where none are asked for."""

_STATS: dict[str, tuple[str, ...]] = {
    "counter": ("sum", "rate"),
    "gauge": ("avg", "min", "max"),
    "histogram": ("count", "rate", "sum", "avg", "min", "max", "buckets"),
    "derived": ("value",),
}
_CUSTOMARY = {"counter": "rate", "gauge": "avg", "histogram": "p50,p95,p99", "derived": "value"}
_QUANTILE = re.compile(r"p(\d{1,2})(\d*)")

Watch = Callable[[], AsyncIterator[bytes]]


class Question(msgspec.Struct, frozen=True):
    """What is asked of the past of one metric."""

    metric: Metric
    span: Span
    labels: dict[str, str]
    stats: tuple[str, ...]
    by: str


def metric_routes(readings: Readings, watch: Watch) -> list[BaseRoute]:
    """The routes; `watch` begins one live stream."""
    return [
        Route("/_slipstream/metrics/names", admin_only(functools.partial(_names, readings))),
        Route("/_slipstream/metrics/query", admin_only(functools.partial(_query, readings))),
        Route("/_slipstream/metrics/window", admin_only(functools.partial(_window, readings))),
        Route("/_slipstream/metrics/live", admin_only(functools.partial(_live, watch))),
    ]


async def _names(readings: Readings, request: Request) -> Response:
    told = [
        {
            "name": metric.name,
            "kind": metric.kind,
            "unit": metric.unit,
            "help": metric.help,
            "labels": metric.labels,
            "stats": _STATS[metric.kind],
            "label_sets": readings.label_sets(metric.name),
        }
        for metric in METRICS.values()
    ]
    return json_response({"data": told})


async def _query(readings: Readings, request: Request) -> Response:
    question = asked(request.query_params, readings.now_wall_ns())
    groups = await asyncio.to_thread(_groups, readings, question)
    return json_response(
        {
            "metric": question.metric.name,
            "kind": question.metric.kind,
            "unit": question.metric.unit,
            "from": question.span.start_ns / 1e9,
            "to": question.span.end_ns / 1e9,
            "step": question.span.step_seconds,
            "stats": question.stats,
            "groups": groups,
        }
    )


async def _window(readings: Readings, request: Request) -> Response:
    """One window up to now, everything that can be told of it."""
    params = request.query_params
    metric = metric_named(params.get("metric", ""))
    labels = _labels(params.get("labels", ""), metric)
    seconds = _number(params.get("window", "60"), "window")
    if not 1 <= seconds <= 90 * 86_400:
        raise BadRequest("`window` is in seconds, at least 1 and at most 90 days.", param="window")
    told = await asyncio.to_thread(window_json, readings, metric, labels, seconds)
    return json_response(told)


async def _live(watch: Watch, request: Request) -> Response:
    return StreamingResponse(
        watch(),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


def window_json(
    readings: Readings, metric: Metric, labels: Mapping[str, str], seconds: float
) -> dict[str, object]:
    """What a metric was within the last `seconds`; null for what cannot be told."""
    told: dict[str, object] = {
        "metric": metric.name,
        "kind": metric.kind,
        "unit": metric.unit,
        "window": seconds,
    }
    told["now"] = readings.now_wall_ns() / 1e9
    if metric.kind == "derived":
        told["value"] = derived(readings, metric.name, labels, seconds)
    elif metric.kind == "gauge":
        stats = readings.gauge_stats(metric.name, labels, seconds)
        told["value"] = readings.gauge(metric.name, labels)
        told["stats"] = msgspec.to_builtins(stats)
    else:
        told["sum"] = readings.counter(metric.name, labels, seconds)
        told["rate"] = readings.rate(metric.name, labels, seconds)
        told["total"] = readings.total(metric.name, labels)
        if metric.kind == "histogram":
            sketch = readings.sketch(metric.name, labels, seconds)
            told["sketch"] = sketch_json(sketch) if sketch is not None else None
    return told


def asked(params: Mapping[str, str], now_ns: int) -> Question:
    """The question in a query string. Raises `BadRequest`."""
    metric = metric_named(params.get("metric", ""))
    labels = _labels(params.get("labels", ""), metric)
    by = params.get("by", "")
    if by and by not in metric.labels:
        raise _no_label(metric, by)
    end_ns = _moment(params.get("to", ""), now_ns, now_ns, "to")
    start_ns = _moment(params.get("from", ""), now_ns, end_ns - int(RANGE_SECONDS * 1e9), "from")
    if not 0 <= start_ns < end_ns:
        raise BadRequest("`from` must be before `to`.", param="from")
    seconds = (end_ns - start_ns) / 1e9
    step = _number(params.get("step", "") or str(max(1.0, seconds // STEPS)), "step")
    if not step >= 1 or seconds / step > STEPS_MAX:
        raise BadRequest(
            f"`step` is in seconds, at least 1, and a range has at most {STEPS_MAX} steps.", param="step"
        )
    start_ns -= start_ns % int(step * 1e9)  # the same steps at every refresh
    span = Span(start_ns, end_ns, step)
    return Question(metric, span, labels, _stats(params.get("stat", ""), metric), by)


def _groups(readings: Readings, question: Question) -> list[dict[str, object]]:
    metric, by = question.metric, question.by
    values: Sequence[str | None] = [None]
    if by:
        sets = readings.label_sets(metric.name)
        fitting = [each for each in sets if question.labels.items() <= each.items()]
        values = sorted({each[by] for each in fitting})[:GROUPS_MAX]
    groups: list[dict[str, object]] = []
    for value in values:
        labels = question.labels if value is None else question.labels | {by: value}
        rows = _derived_rows if metric.kind == "derived" else _rows
        groups.append({"labels": labels, "points": rows(readings, question, labels)})
    return groups


def _rows(readings: Readings, question: Question, labels: dict[str, str]) -> list[list[object]]:
    points = readings.history(question.metric.name, labels, question.span)
    step = question.span.step_seconds
    kind = question.metric.kind
    return [
        [point.wall_ns / 1e9, *(_stat(stat, point, kind, step) for stat in question.stats)]
        for point in points
    ]


def _derived_rows(readings: Readings, question: Question, labels: dict[str, str]) -> list[list[object]]:
    above, below = question.metric.over
    step, factor = question.span.step_seconds, question.metric.factor
    parts = {p.wall_ns: p.sum for p in readings.history(above, labels, question.span)}
    if not below:
        return [[at / 1e9, part / step * factor] for at, part in parts.items()]
    known = METRICS[below].labels
    under = {name: value for name, value in labels.items() if name in known}
    wholes = readings.history(below, under, question.span)
    return [[p.wall_ns / 1e9, parts.get(p.wall_ns, 0.0) / p.sum * factor] for p in wholes if p.sum]


def _stat(stat: str, point: Point, kind: str, step: float) -> object:
    if stat == "rate":
        return (point.count if kind == "histogram" else point.sum) / step
    if stat in {"sum", "count"}:
        return getattr(point, stat)
    if stat == "avg":
        return point.sum / point.count if point.count else None
    if stat in {"min", "max"}:
        return point.low if stat == "min" else point.high
    if point.sketch is None:
        return None
    if stat == "buckets":
        return sorted(point.sketch.buckets.items())
    return point.sketch.quantile(quantile_of(stat))


def quantile_of(stat: str) -> float:
    """0.999 of `p999`. Raises `BadRequest` for what is no quantile."""
    found = _QUANTILE.fullmatch(stat)
    if found is None:
        raise BadRequest(f"`{stat}` is no statistic.", hint="Such as p50, p95, p999.", param="stat")
    digits = found[1] + found[2]
    return float(f"0.{digits}")


def _stats(given: str, metric: Metric) -> tuple[str, ...]:
    stats = tuple((given or _CUSTOMARY[metric.kind]).split(","))[:20]
    known = _STATS[metric.kind]
    for stat in stats:
        if stat in known:
            continue
        if metric.kind != "histogram":
            raise BadRequest(
                f"`{metric.name}` is a {metric.kind}: `{stat}` cannot be told of it.",
                hint=f"Ask for one of {', '.join(known)}.",
                param="stat",
            )
        quantile_of(stat)
    return stats


def _labels(given: str, metric: Metric) -> dict[str, str]:
    """`model=a,route=chat`, or a JSON object for values with odd characters."""
    if given.startswith("{"):
        try:
            labels = msgspec.json.decode(given, type=dict[str, str])
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise BadRequest(f"`labels` cannot be read: {error}.", param="labels") from error
    else:
        pairs = [pair.partition("=") for pair in given.split(",") if pair]
        labels = {name.strip(): value for name, _, value in pairs}
    for name in labels:
        if name not in metric.labels:
            raise _no_label(metric, name)
    return labels


def _no_label(metric: Metric, name: str) -> BadRequest:
    known = ", ".join(metric.labels) or "none"
    return BadRequest(f"`{metric.name}` has no label `{name}`.", hint=f"It has: {known}.", param="labels")


def _moment(given: str, now_ns: int, default_ns: int, name: str) -> int:
    """In ns, as an integer: a float of today's wall clock is off by 256 ns."""
    if not given:
        return default_ns
    number = _number(given, name)
    return int(number * 1e9) + (now_ns if number < 0 else 0)


def _number(given: str, name: str) -> float:
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or abs(number) > 1e11:
        raise BadRequest(f"`{name}` must be a number.", param=name)
    return number
