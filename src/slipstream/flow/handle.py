"""The way of a request, told once, in order. Everything else in this package is one of its stages."""

from collections.abc import AsyncGenerator, Callable

from msgspec import Struct

from slipstream.core.errors import SlipstreamError
from slipstream.core.ports import Chunk, Head, RecordSink
from slipstream.core.record import Record
from slipstream.flow.admit import Admit
from slipstream.flow.call import Call, read
from slipstream.flow.flight import Flights, Reader


def unpriced(record: Record) -> float | None:
    """The cost of a request where no price is known."""
    return None


class Way(Struct, frozen=True):
    """The stages, built once by the wiring. A stage that is switched off is not in here."""

    admit: Admit
    flights: Flights
    sink: RecordSink
    salt: bytes
    """Key of the hashes in records, so that they cannot be matched with hashes made elsewhere."""
    cost: Callable[[Record], float | None] = unpriced
    """Dollars that a request cost, as far as its tokens and their price are known."""


async def handle(call: Call, record: Record, way: Way) -> AsyncGenerator[Head | Chunk, None]:
    """Serve one call: yields the `Head`, then the body's chunks.

    Raises `SlipstreamError` before the head if nothing can be answered, after it if the answer broke.
    Close the generator when the client leaves; whatever happens, the record is closed and handed on.
    """
    reader: Reader | None = None
    try:
        with record.step("admit"):
            way.admit(call.secret, record)
        with record.step("read"):
            request = read(call, record, way.salt)
        reader = way.flights.board(request, record)
        yield await reader.head()
        async for chunk in reader:
            record.response_bytes += sum(map(len, chunk.events))
            yield chunk
    except SlipstreamError as error:
        record.fail(error)
        raise
    finally:
        if reader is not None:
            reader.leave()
        record.close()
        record.cost = way.cost(record)
        way.sink.take(record)
