"""The way of a request that we do not understand: admitted, passed to the upstream as it is, recorded."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol, runtime_checkable

from slipstream.core.errors import BadRequest, SlipstreamError
from slipstream.core.ports import Chunk, Forwarded, Head, Reply
from slipstream.core.record import Record
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
        with record.step("open"):
            reply = await upstream.forward(request, record)
        yield reply.head
        with record.step("relay"):
            async for chunk in _stamped(reply, record):
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


async def _stamped(reply: Reply, record: Record) -> AsyncIterator[Chunk]:
    async for chunk in reply:
        if record.first_byte_ns is None:
            record.first_byte_ns = chunk.arrived_ns - record.origin_ns
        record.chunks += 1
        record.response_bytes += sum(map(len, chunk.events))
        yield chunk
