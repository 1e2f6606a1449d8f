"""Sends metrics and traces to a collector as OTLP over HTTP. A collector that fails is counted and survived.

Metrics are cumulative, so one that was not sent is in the next. Requests wait in a bounded queue, and are
tried again as the specification asks (opentelemetry.io/docs/specs/otlp, "Failures"): after 429, 502, 503
and 504 and where no answer came; what the collector refuses otherwise is dropped and counted.
"""

import asyncio
import logging
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal
from urllib.parse import unquote

import msgspec

from slipstream.config.settings import Otlp
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.core.readings import Readings
from slipstream.core.record import Record
from slipstream.monitoring import otlp, otlp_wire
from slipstream.monitoring.protobuf import Message, Schema, as_json, encode
from slipstream.net.client import ClientOptions, HttpClient

TRACES_SECONDS = 2.0
"""How often traces are sent."""
BATCH = 512
"""Records in one message, as OpenTelemetry's own batches have."""
ANSWER_BYTES = 1024 * 1024
AGAIN = frozenset({429, 502, 503, 504})

Sent = Literal["sent", "again", "refused"]
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_log = logging.getLogger(__name__)


class OtlpExporter:
    """Sends to one collector, on the running loop.

    Args:
        settings: where and how often; `url` is not empty.
        readings: what is sent.
        resource: who we are: `service.name` and the like.
        count: called with the name of a counter and its label when something is lost.

    Raises `ConfigurationError` for a URL or headers that cannot be used.
    """

    def __init__(
        self,
        settings: Otlp,
        readings: Readings,
        *,
        resource: Mapping[str, object],
        count: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._readings = readings
        self._resource = resource
        self._count = count
        self._start_ns = clock.wall_ns()
        self._waiting: deque[Record] = deque()
        self._client = _client(settings)
        kind = b"application/json" if settings.encoding == "json" else b"application/x-protobuf"
        self._headers = ((b"content-type", kind), *_headers(settings.headers_env))
        self._failed = False

    def take(self, record: Record) -> None:
        """Keep a closed record to be sent as a trace; the oldest makes room and is counted."""
        if not self._settings.traces:
            return
        if len(self._waiting) >= self._settings.trace_queue:
            self._waiting.popleft()
            self._drop(1)
        self._waiting.append(record)

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._every(self._settings.interval_seconds, self.send_metrics))
            tasks.create_task(self._every(TRACES_SECONDS, self.send_traces))

    async def aclose(self) -> None:
        """Send what is left, once, and close."""
        await self.send_metrics()
        await self.send_traces()
        await self._client.aclose()

    async def send_metrics(self) -> None:
        """Send all metrics as they are now."""
        message = otlp.metrics_message(self._readings, self._resource, self._start_ns)
        await self._send("/v1/metrics", message, otlp_wire.METRICS)

    async def send_traces(self) -> None:
        """Send the records that wait, as long as the collector takes them."""
        sent: Sent = "sent"
        while sent != "again" and self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            sent = "again"
            try:
                message = otlp.traces_message(batch, self._resource)
                sent = await self._send("/v1/traces", message, otlp_wire.TRACES)
            finally:
                if sent == "again":
                    self._put_back(batch)
            if sent == "refused":
                self._drop(len(batch))

    def _put_back(self, batch: list[Record]) -> None:
        """To be sent again, as far as there is room beside what has come meanwhile."""
        room = max(0, self._settings.trace_queue - len(self._waiting))
        kept = batch[len(batch) - min(room, len(batch)) :]
        self._waiting.extendleft(reversed(kept))
        self._drop(len(batch) - len(kept))

    def _drop(self, records: int) -> None:
        for _ in range(records):
            self._count("export_dropped", "otlp")

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await work()

    async def _send(self, path: str, message: Message, schema: Schema) -> Sent:
        body = await asyncio.to_thread(self._written, message, schema)  # some 100 ms of 500 requests
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                response = await self._client.request("POST", path, self._headers, body)
                try:
                    told = await response.read(ANSWER_BYTES)
                finally:
                    response.close()
        except (SlipstreamError, TimeoutError) as error:
            return self._lost("again", str(error) or f"no answer within {self._settings.timeout_seconds:g} s")
        if response.status in AGAIN:
            return self._lost("again", f"status {response.status}")
        if not 200 <= response.status < 300:
            return self._lost("refused", f"status {response.status}: {told[:200]!r}")
        if self._failed:
            self._failed = False
            _log.info("the collector at %s takes what is sent again", self._settings.url)
        return "sent"

    def _written(self, message: Message, schema: Schema) -> bytes:
        if self._settings.encoding == "json":
            return msgspec.json.encode(as_json(message, schema))
        return encode(message, schema)

    def _lost(self, outcome: Sent, why: str) -> Sent:
        self._count("export_errors", "otlp")
        if not self._failed:  # once, not every time
            self._failed = True
            _log.warning("the collector at %s does not take what is sent: %s", self._settings.url, why)
        return outcome


def _client(settings: Otlp) -> HttpClient:
    options = ClientOptions(connections=2, connect_seconds=settings.timeout_seconds)
    try:
        return HttpClient(settings.url.rstrip("/"), options)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"`monitoring.otlp.url` cannot be used: {error.message}",
            hint="Write it like http://127.0.0.1:4318; keys go into `headers_env`.",
        ) from error


def _headers(variable: str) -> list[tuple[bytes, bytes]]:
    """Headers of an environment variable written like OTEL_EXPORTER_OTLP_HEADERS: `name=value,name=value`."""
    if not variable:
        return []
    pairs = []
    for part in filter(None, os.environ.get(variable, "").split(",")):
        name, equals, value = part.partition("=")
        value = unquote(value.strip())
        if not equals or not _NAME.fullmatch(name.strip()) or not value.isprintable() or not value.isascii():
            raise ConfigurationError(
                f"${variable} holds a header that cannot be sent.",
                hint="Write it as name=value,name=value; other characters as %XX.",
            )
        pairs.append((name.strip().lower().encode(), value.encode()))
    return pairs
