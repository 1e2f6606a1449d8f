"""`/metrics` for Prometheus and the summary that scripts read. For admins: on loopback without keys all are.

Prometheus sends a key as `authorization: {credentials_file: …}` of its scrape configuration.
"""

import asyncio
import functools
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from slipstream.core.readings import Readings
from slipstream.gateway.admin_api import admin_only, json_response
from slipstream.monitoring import prometheus
from slipstream.monitoring.summary import summarize

FRESH_SECONDS = 1.5
"""Longest wait for the next look at the metrics, of which there is one a second."""


def export_routes(readings: Readings) -> list[BaseRoute]:
    """The routes that tell all metrics at once."""
    return [
        Route("/metrics", admin_only(functools.partial(_metrics, readings))),
        Route("/_slipstream/metrics/summary", admin_only(functools.partial(_summary, readings))),
    ]


async def _metrics(readings: Readings, request: Request) -> Response:
    found = list(prometheus.families(readings))
    if _wants_protobuf(request.headers.get("accept", "")):
        body, kind = await asyncio.to_thread(prometheus.protobuf, found), prometheus.PROTOBUF
    else:
        body, kind = await asyncio.to_thread(prometheus.text, found), prometheus.TEXT
    return Response(body, headers={"content-type": kind, "cache-control": "no-store"})


async def _summary(readings: Readings, request: Request) -> Response:
    """`fresh=1` waits until all that was counted up to now is in it."""
    if request.query_params.get("fresh") == "1":
        before_ns = readings.now_wall_ns()
        await _until(lambda: readings.now_wall_ns() != before_ns)
    return json_response(summarize(readings, "server"))


async def _until(is_so: Callable[[], bool]) -> None:
    """Wait for the next look, or as long as one can take."""
    for _ in range(int(FRESH_SECONDS / 0.02)):
        if is_so():
            return
        await asyncio.sleep(0.02)


def _wants_protobuf(accept: str) -> bool:
    """Whether a scraper prefers protobuf: named, and not ranked below the text (RFC 9110, 12.5.1)."""
    ranks = {"protobuf": 0.0, "text": 0.0}
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        rank = next((_rank(part[2:]) for part in parameters if part.startswith("q=")), 1.0)
        if kind == "application/vnd.google.protobuf":
            if "proto=io.prometheus.client.metricfamily" in parameters and "encoding=delimited" in parameters:
                ranks["protobuf"] = max(ranks["protobuf"], rank)
        elif kind in {"text/plain", "text/*", "*/*"}:
            ranks["text"] = max(ranks["text"], rank)
    return ranks["protobuf"] > 0 and ranks["protobuf"] >= ranks["text"]


def _rank(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
