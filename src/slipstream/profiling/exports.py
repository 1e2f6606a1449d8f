"""Traces in the formats of other tools: speedscope, Chrome and Perfetto, collapsed stacks, OpenTelemetry.

Formats: speedscope's file-format-schema (evented profiles), Chrome's Trace Event Format ("X", "i" events),
Brendan Gregg's collapsed stacks (a stack and its own microseconds a line), OTLP/JSON.
"""

import secrets
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from slipstream.core import clock
from slipstream.core.steps import NO_ROOM, Span, Trace
from slipstream.profiling.critical_path import covered_beyond_ns, own_time_ns
from slipstream.profiling.recorded import RecordedTrace

SPEEDSCOPE_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
FIRST_ITEM = "first item"
"""What the arrival of a stream's first item is called; speedscope and collapsed stacks know no moments."""


def to_speedscope(traces: Iterable[Trace], name: str = "slipstream") -> bytes:
    """A speedscope file: one profile a trace; of steps that ran side by side, the later one is clipped.

    Speedscope's stacks cannot overlap; the whole picture is in `to_chrome_trace`.
    """
    frames: dict[str, int] = {}
    profiles = []
    for trace in traces:
        root = trace.root
        events: list[dict[str, Any]] = []
        _speedscope_events(trace, frames, events)
        profiles.append(
            {
                "type": "evented",
                "name": root.name,
                "unit": "nanoseconds",
                "startValue": 0,
                "endValue": root.duration_ns,
                "events": events,
            }
        )
    return msgspec.json.encode(
        {
            "$schema": SPEEDSCOPE_SCHEMA,
            "name": name,
            "exporter": "slipstream",
            "shared": {"frames": [{"name": each} for each in frames]},
            "profiles": profiles,
        }
    )


def to_chrome_trace(traces: Iterable[Trace]) -> bytes:
    """Chrome's trace events: a process a trace; steps side by side have lanes (threads) of their own."""
    events: list[dict[str, Any]] = []
    for number, trace in enumerate(traces):
        base_ns = trace.root.start_ns
        lanes: list[list[Span]] = []
        for span, parent in _with_parents(trace.root):
            lane = _lane(lanes, span, parent)
            events.append(
                {
                    "ph": "X",
                    "cat": span.kind or "step",
                    "name": span.name,
                    "pid": number,
                    "tid": lane,
                    "ts": (span.start_ns - base_ns) / 1e3,
                    "dur": span.duration_ns / 1e3,
                    "args": {"error": span.error} if span.error else {},
                }
            )
            if span.first_ns:
                at = (span.first_ns - base_ns) / 1e3
                events.append({"ph": "i", "s": "t", "name": FIRST_ITEM, "pid": number, "tid": lane, "ts": at})
        events.append({"ph": "M", "name": "process_name", "pid": number, "args": {"name": trace.root.name}})
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ms"})


def to_otlp(traces: Iterable[Trace], service: str = "slipstream") -> bytes:
    """OTLP/JSON, as a collector takes it at `/v1/traces`: a trace each, with ids made now.

    Times of a recorded trace are its record's; of others, those of the wall clock as it stands to the
    monotonic one now.
    """
    clocks_apart_ns = clock.wall_ns() - clock.monotonic_ns()
    spans: list[dict[str, Any]] = []
    for trace in traces:
        to_wall_ns = trace.to_wall_ns if isinstance(trace, RecordedTrace) else clocks_apart_ns
        trace_id = secrets.token_hex(16)
        ids: dict[int, str] = {}
        for span, parent in _with_parents(trace.root):
            ids[id(span)] = secrets.token_hex(8)
            spans.append(
                {
                    "traceId": trace_id,
                    "spanId": ids[id(span)],
                    "parentSpanId": ids[id(parent)] if parent is not None else "",
                    "name": span.name,
                    "kind": 1,
                    "startTimeUnixNano": str(span.start_ns + to_wall_ns),
                    "endTimeUnixNano": str(span.end_ns + to_wall_ns),
                    "events": _events(span, to_wall_ns),
                    "attributes": [_attribute("slipstream.kind", span.kind)] if span.kind else [],
                    "status": {"code": 2, "message": span.error} if span.error else {},
                }
            )
    resource = {"attributes": [_attribute("service.name", service)]}
    scopes = [{"scope": {"name": "slipstream"}, "spans": spans}]
    return msgspec.json.encode({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]})


def _events(span: Span, to_wall_ns: int) -> list[dict[str, Any]]:
    return [{"timeUnixNano": str(span.first_ns + to_wall_ns), "name": FIRST_ITEM}] if span.first_ns else []


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def to_collapsed(traces: Iterable[Trace]) -> str:
    """Collapsed stacks: `root;step;substep microseconds`, for flame graph tools."""
    sums: dict[str, int] = {}
    for trace in traces:
        for stack, span in _stacks(trace.root):
            sums[stack] = sums.get(stack, 0) + own_time_ns(span)
            if beyond_ns := covered_beyond_ns(span):
                sums[f"{stack};{NO_ROOM}"] = sums.get(f"{stack};{NO_ROOM}", 0) + beyond_ns
    return "".join(f"{stack} {round(own_ns / 1e3)}\n" for stack, own_ns in sorted(sums.items()))


def _speedscope_events(trace: Trace, frames: dict[str, int], events: list[dict[str, Any]]) -> None:
    root = trace.root

    def event(kind: str, name: str, at_ns: int) -> None:
        frame = frames.setdefault(name, len(frames))
        events.append({"type": kind, "frame": frame, "at": at_ns - root.start_ns})

    open_spans: list[tuple[Span, int]] = []
    reached_ns = root.start_ns
    for span in sorted(trace.spans(), key=lambda each: (each.start_ns, each.depth)):
        while open_spans and open_spans[-1][1] <= span.start_ns:
            closed, end_ns = open_spans.pop()
            event("C", closed.name, end_ns)
            reached_ns = max(reached_ns, end_ns)
        limit_ns = open_spans[-1][1] if open_spans else root.end_ns
        start_ns, end_ns = max(span.start_ns, reached_ns), min(span.end_ns, limit_ns)
        if end_ns < start_ns:
            continue
        event("O", span.name, start_ns)
        open_spans.append((span, end_ns))
    while open_spans:
        closed, end_ns = open_spans.pop()
        event("C", closed.name, end_ns)


def _lane(lanes: list[list[Span]], span: Span, parent: Span | None) -> int:
    """Its parent's lane where nothing else runs in it, else the first free one. Lanes hold what is open."""
    for lane in lanes:
        while lane and lane[-1].end_ns <= span.start_ns:
            lane.pop()
    fits = [
        at for at, lane in enumerate(lanes) if lane and lane[-1] is parent and span.end_ns <= parent.end_ns
    ]
    free = [at for at, lane in enumerate(lanes) if not lane]
    if not fits and not free:
        lanes.append([])
    at = (fits or free or [len(lanes) - 1])[0]
    lanes[at].append(span)
    return at


def _with_parents(root: Span) -> list[tuple[Span, Span | None]]:
    """Every span with the one it is in, by their beginnings; a parent comes before its children."""
    found: list[tuple[Span, Span | None]] = [(root, None)]
    for span, _ in found:  # grows while it is walked
        found.extend((child, span) for child in span.children)
    return sorted(found, key=lambda each: (each[0].start_ns, each[0].depth))


def _stacks(root: Span) -> Iterator[tuple[str, Span]]:
    waiting = [(_frame(root.name), root)]
    while waiting:
        stack, span = waiting.pop()
        yield stack, span
        waiting.extend((f"{stack};{_frame(child.name)}", child) for child in span.children)


def _frame(name: str) -> str:
    """A name that does not break the format."""
    return name.replace(";", ":").replace("\n", " ")
