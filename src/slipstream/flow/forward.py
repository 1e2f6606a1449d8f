"""The way of a request that we do not understand: admitted, passed to the upstream as it is, recorded."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol, runtime_checkable

from slipstream.core.errors import BadRequest, SlipstreamError, UpstreamTimeout
from slipstream.core.ports import Chunk, Forwarded, Head, Reply
from slipstream.core.record import Record
from slipstream.flow.attempt import Patience
from slipstream.flow.handle import Way
from slipstream.flow.select import Catalog


@runtime_checkable
class Forwarder(Protocol):
    """A model that takes any request of its API."""

    @property
    def name(self) -> str:
        """What the record calls it."""
        ...

    async def forward(self, request: Forwarded, record: Record) -> Reply:
        """Send it on; return when the head is known."""
        ...


async def forward(
    request: Forwarded, record: Record, way: Way, catalog: Catalog
) -> AsyncGenerator[Head | Chunk, None]:
    """Serve one unknown call: yields the `Head`, then the body's chunks; errors as in `handle`."""
    reply: Reply | None = None
    try:
        with record.step("admit"):
            way.admit(request.secret, record)
        record.request_bytes = len(request.body)
        upstream = next((m for m in catalog.models() if isinstance(m, Forwarder)), None)
        if upstream is None:
            raise BadRequest(
                f"/v1{request.path[:200]} is not served here, and there is no upstream to pass it to.",
                hint="Configure one: `slipstream serve --upstream URL`.",
                code="not_found",
                status=404,
            )
        record.upstream = upstream.name
        record.attempts = 1
        patience = way.flights.patience
        with record.step("open"):
            async with _within(patience.first_token_seconds):
                reply = await upstream.forward(request, record)
        yield reply.head
        with record.step("relay"):
            body = aiter(reply)
            while (chunk := await _next(body, record, patience)) is not None:
                yield chunk
        record.status = reply.head.status
        record.outcome = "served" if record.status < 400 else "failed" if record.status >= 500 else "refused"
    except SlipstreamError as error:
        record.fail(error)
        raise
    finally:
        if reply is not None:
            await reply.aclose()
        record.close()
        way.sink.take(record)


async def _next(body: AsyncIterator[Chunk], record: Record, patience: Patience) -> Chunk | None:
    """The next of the body, taken down; None at its end."""
    left = patience.total_seconds - record.since_arrival() / 1e9
    async with _within(min(patience.idle_seconds, left)):
        chunk = await anext(body, None)
    if chunk is not None:
        if record.first_byte_ns is None:
            record.first_byte_ns = chunk.arrived_ns - record.origin_ns
        record.chunks += 1
        record.response_bytes += sum(map(len, chunk.events))
    return chunk


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise UpstreamTimeout(
            f"The upstream sent nothing for {max(seconds, 0.0):g} s.",
            hint="models.first_token_seconds, idle_seconds and total_seconds bound this.",
        ) from None
