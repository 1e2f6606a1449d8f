"""The OpenAI dialect: which path is which call, and how the way's items become an HTTP answer."""

import asyncio
import urllib.parse
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

import msgspec

from slipstream.core.chat import Route
from slipstream.core.errors import BadRequest, SlipstreamError, Unavailable
from slipstream.core.meters import Counters
from slipstream.core.ports import Chunk, Forwarded, Head
from slipstream.core.record import Record, open_record
from slipstream.flow.call import Call
from slipstream.flow.forward import forward
from slipstream.flow.handle import Way, handle
from slipstream.flow.select import Catalog
from slipstream.gateway.errors import error_body, error_event, error_headers
from slipstream.gateway.exchange import PIECE_BYTES, Exchange
from slipstream.gateway.guard import require_json, secret_of

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
FOREIGN = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
)
"""Goes with whatever an upstream sends that is not JSON: no browser may run it as a page of ours."""

Handler = Callable[[Exchange], Awaitable[None]]
Items = AsyncGenerator[Head | Chunk, None]
Pairs = Iterable[tuple[bytes, bytes]]


class OpenAIApi:
    """The hot routes. Each handler answers its exchange, errors included, and raises nothing of ours."""

    def __init__(
        self, way: Way, catalog: Catalog, counters: Counters, *, models: Callable[[], "ModelList"]
    ) -> None:
        self._way = way
        self._catalog = catalog
        self._counters = counters
        self._models = models
        self._under_way: dict[str, Record] = {}  # by id, in the order in which they came
        self.routes: dict[tuple[bytes, bytes], Handler] = {
            (b"POST", b"/v1/chat/completions"): self._call(Route.CHAT),
            (b"POST", b"/v1/completions"): self._call(Route.COMPLETIONS),
            (b"POST", b"/v1/embeddings"): self._call(Route.EMBEDDINGS),
            (b"GET", b"/v1/models"): self._list_models,
        }
        self._paths = {path: method for method, path in self.routes}

    @property
    def in_flight(self) -> int:
        """Calls that are being answered."""
        return len(self._under_way)

    def others(self, request_id: str) -> int:
        """Calls beside this one that are being answered."""
        return len(self._under_way) - (request_id in self._under_way)

    @property
    def oldest_ns(self) -> int:
        """How long the oldest of them has been under way; 0 where there is none."""
        oldest = next((each for each in self._under_way.values() if each.origin_ns), None)
        return oldest.since_arrival() if oldest is not None else 0

    def find(self, exchange: Exchange) -> Handler | None:
        """The handler of a request below `/v1/`, None if it is none of ours."""
        handler = self.routes.get((exchange.method, exchange.path))
        if handler is not None or not exchange.path.startswith(b"/v1/"):
            return handler
        if exchange.path in self._paths:
            return self._wrong_method
        is_model = exchange.method == b"GET" and exchange.path.startswith(b"/v1/models/")
        return self._one_model if is_model else self._forward

    def _call(self, route: Route) -> Handler:
        name = route.value

        async def serve(exchange: Exchange) -> None:
            record = open_record(route=name)
            try:
                require_json(exchange.headers)
            except SlipstreamError as error:
                self._refused(exchange, record, error)
                return
            call = Call(route, exchange.body, secret_of(exchange.headers))
            exchange.body = b""
            await self._answer(exchange, record, handle(call, record, self._way))

        return serve

    async def _answer(self, exchange: Exchange, record: Record, items: Items) -> None:
        """Turn the way's items into an answer. The record belongs to the way."""
        self._enter(exchange, record)
        streamed = False
        try:
            async for item in items:
                if isinstance(item, Head):
                    streamed = item.streamed
                    _begin(exchange, item, record)
                    continue
                events = item.events
                data = events[0] if len(events) == 1 else b"".join(events)
                if len(data) > PIECE_BYTES:
                    del item, events  # a slow client must not keep them twice
                    await exchange.write_slowly(data)
                    continue
                exchange.write(data)
                if exchange.flow.write_paused:
                    await exchange.drain()
            exchange.finish()
        except SlipstreamError as error:
            self._counters.count("requests_refused" if error.status < 500 else "requests_failed")
            if not exchange.started:
                exchange.respond(
                    error.status, JSON, error_body(error), _headers(record, error_headers(error))
                )
            elif streamed:
                exchange.write(error_event(error))
                exchange.finish()
            else:
                exchange.abort()
        except asyncio.CancelledError:
            if not exchange.gone:  # not the client left: we are shutting down
                self._shut_down(exchange, streamed)
            raise
        finally:
            del self._under_way[record.id]
            if exchange.gone:
                self._counters.count("requests_aborted")
            await items.aclose()

    def _enter(self, exchange: Exchange, record: Record) -> None:
        self._under_way[record.id] = record
        if exchange.task is not None:
            exchange.task.set_name(record.id)  # so that a profile and a stall know whose it is; 50 ns
        self._counters.count("requests")
        record.in_flight = len(self._under_way)

    @staticmethod
    def _shut_down(exchange: Exchange, streamed: bool) -> None:
        error = Unavailable("The server is shutting down.", hint="Try again.", retry_after_seconds=1.0)
        exchange.keep_alive = False
        if not exchange.started:
            exchange.respond(error.status, JSON, error_body(error), error_headers(error))
        elif streamed:
            exchange.write(error_event(error))
            exchange.finish()
        else:
            exchange.abort()

    def _refused(self, exchange: Exchange, record: Record, error: SlipstreamError) -> None:
        """A call that is refused before its way begins; it is recorded all the same."""
        self._counters.count("requests")
        self._counters.count("requests_refused")
        record.fail(error)
        record.close()
        self._way.sink.take(record)
        exchange.respond(error.status, JSON, error_body(error), _headers(record, error_headers(error)))

    async def _forward(self, exchange: Exchange) -> None:
        """Any other request of the API goes to the upstream as it is."""
        record = open_record(route="forward")
        if climbs(exchange.path):
            self._refused(exchange, record, BadRequest("The path leads out of the API.", code="invalid_path"))
            return
        plain = b"/" + b"/".join(filter(None, urllib.parse.unquote_to_bytes(exchange.path).split(b"/")))
        if plain in self._paths:  # an upstream might take it for that call: past all that we do for it
            error = BadRequest(
                "The path is written in an unusual way.",
                hint=f"Write {plain.decode()}.",
                code="invalid_path",
                status=404,
            )
            self._refused(exchange, record, error)
            return
        query = b"?" + exchange.query if exchange.query else b""
        path = (exchange.path.removeprefix(b"/v1") + query).decode("latin-1")
        request = Forwarded(
            exchange.method.decode("ascii"),
            path,
            exchange.headers,
            exchange.body,
            secret_of(exchange.headers),
        )
        await self._answer(exchange, record, forward(request, record, self._way, self._catalog))

    async def _wrong_method(self, exchange: Exchange) -> None:
        allowed = self._paths[exchange.path]
        error = BadRequest(
            f"{exchange.path.decode('latin-1')} takes {allowed.decode()} only.",
            code="wrong_method",
            status=405,
        )
        exchange.respond(405, JSON, error_body(error), [(b"allow", allowed)])

    async def _list_models(self, exchange: Exchange) -> None:
        record = open_record(route="models")
        try:
            self._way.admit(secret_of(exchange.headers), record)
        except SlipstreamError as error:
            exchange.respond(error.status, JSON, error_body(error), error_headers(error))
            return
        exchange.respond(200, JSON, msgspec.json.encode(self._models()))

    async def _one_model(self, exchange: Exchange) -> None:
        record = open_record(route="models")
        self._way.admit(secret_of(exchange.headers), record)
        name = urllib.parse.unquote(exchange.path.removeprefix(b"/v1/models/").decode("latin-1"))
        row = next((row for row in self._models().data if row.id == name), None)
        if row is not None:
            exchange.respond(200, JSON, msgspec.json.encode(row))
            return
        self._catalog.course(name, Route.CHAT)  # raises for a name that nobody serves
        await self._forward(exchange)


def climbs(path: bytes) -> bool:
    """Whether a path has dot segments, plain or escaped: they would lead out of the upstream's base path."""
    plain = path.lower().replace(b"%2e", b".")
    for separator in (b"%2f", b"%5c", b"\\"):
        plain = plain.replace(separator, b"/")
    return any(segment in (b".", b"..") for segment in plain.split(b"/"))


class ModelRow(msgspec.Struct):
    """One entry of `GET /v1/models`."""

    id: str
    owned_by: str
    slipstream: dict[str, str | bool]
    created: int = 0
    object: str = "model"


class ModelList(msgspec.Struct):
    """The answer of `GET /v1/models`."""

    data: list[ModelRow]
    object: str = "list"


def _begin(exchange: Exchange, head: Head, record: Record) -> None:
    content_type = EVENT_STREAM if head.streamed else head.content_type
    headers = _headers(record, head.headers)
    if head.streamed:
        headers.append((b"cache-control", b"no-cache"))
    elif not content_type.startswith(JSON):
        headers.extend(FOREIGN)
    exchange.begin(head.status, content_type, headers, length=head.length)


def _headers(record: Record, more: Pairs) -> list[tuple[bytes, bytes]]:
    """The headers of every answer: its id, and the steps up to its first byte, where there are any."""
    name = (b"x-request-id", record.id.encode())
    steps = ", ".join([f"{s.name};dur={s.duration_ns / 1e6:.3f}" for s in record.steps if s.duration_ns >= 0])
    return [name, (b"server-timing", steps.encode()), *more] if steps else [name, *more]
