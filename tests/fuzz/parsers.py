"""What the fuzzer feeds: each parser of ours with the promise that must hold for any bytes whatever."""

import asyncio
import json
import random
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from faults.raw import Collector
from fuzz.mutation import cut
from slipstream.config.settings import Server
from slipstream.core.chat import ChatRequest, Route, join, parse
from slipstream.core.errors import BadRequest, SlipstreamError, UpstreamFailed
from slipstream.core.meters import Counters
from slipstream.core.ports import Chunk, Head
from slipstream.core.record import open_record
from slipstream.flow.observe import Observer
from slipstream.gateway.errors import error_body
from slipstream.gateway.exchange import Exchange
from slipstream.gateway.guard import Guard
from slipstream.gateway.protocol import GatewayProtocol
from slipstream.net.http1 import Connection
from slipstream.net.sse import EventSplitter, data_of

EVENT_BYTES = 512
ASKED = ChatRequest(Route.CHAT, {}, b"{}")


class Line(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.ended = False

    def write(self, data: Any) -> None:
        assert not self.ended, "written after the end"
        if not self.closed:
            self.written += data

    def writelines(self, pieces: Any) -> None:
        for piece in pieces:
            self.write(piece)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


# Server-sent events.


def split_events(data: bytes, rng: random.Random) -> str:
    """Nothing is lost, added or reordered; the events do not depend on the cuts; too long is said so."""
    outcomes = []
    for pieces in ([data], cut(data, rng)):
        splitter = EventSplitter(EVENT_BYTES)
        events: list[bytes] = []
        try:
            for piece in pieces:
                events += splitter.feed(piece)
            rest = splitter.rest()
        except UpstreamFailed as error:
            if error.code != "event_too_large" or not data.startswith(b"".join(events)):
                raise
            outcomes.append((events, None))
        else:
            assert b"".join(events) + rest == data
            outcomes.append((events, rest))
        for event in events:
            data_of(event)
    (whole, rest_whole), (pieced, rest_pieced) = outcomes
    if rest_whole is not None and rest_pieced is not None:
        assert [data_of(event) for event in whole] == [data_of(event) for event in pieced] or b"\r" in data
    return "events" if rest_whole is not None else "too large"


def observe(data: bytes, rng: random.Random) -> str:
    """Whatever an upstream says, the observer passes it on or leaves out a usage event; it never breaks."""
    record = open_record(route="chat/completions")
    observer = Observer(ASKED, record)
    observer.begin(Head(200, b"text/event-stream", streamed=True))
    try:
        events = EventSplitter(1 << 20).feed(data + b"\n\n")
    except UpstreamFailed:
        return "too large"
    for number, event in enumerate(events):
        passed = observer.see(Chunk((event,), record.origin_ns + number + 1))
        assert passed is None or passed.events == (event,)
    try:
        observer.end()
    except UpstreamFailed as error:
        if error.code != "upstream_broke":
            raise
        return "broke"
    assert record.output_tokens is None or record.output_tokens >= 0
    return record.outcome


# Request bodies.


def parse_body(data: bytes, rng: random.Random) -> str:
    """A request, or a `BadRequest` with a message. A request is what a plain JSON parser reads, without duplicates."""
    route = rng.choice(list(Route))
    try:
        request = parse(route, data)
    except BadRequest as error:
        if not error.message or error.status != 400:
            raise
        return error.code
    try:
        names = [name for name, _ in json.loads(data, object_pairs_hook=lambda pairs: pairs)]
        expected = json.loads(data)
    except RecursionError:  # json gives up sooner than we do
        return "deep"
    assert len(names) == len(set(names)) == len(request.fields)
    assert json.loads(join(request.fields)) == expected
    if "zz_new" not in request.fields:
        assert json.loads(request.adding("zz_new", b"1").body) == {"zz_new": 1, **expected}
    return "request"


# Requests on a connection.


class Desk:
    """The server behind the protocol: answers everything, and takes down what it was asked."""

    def __init__(self) -> None:
        self.settings = Server()
        self.guard = Guard("127.0.0.1")
        self.counters = Counters()
        self.date = b"now"
        self.draining = False
        self.asked: list[tuple[bytes, bytes, bytes, bytes]] = []
        self.refused = 0
        self.has_head = False

    async def handler(self, exchange: Exchange) -> None:
        self.has_head |= exchange.method == b"HEAD"
        self.asked.append((exchange.method, exchange.path, exchange.query, exchange.body))
        exchange.respond(200, b"text/plain", b"ok")

    def refuse(self, exchange: Exchange, error: SlipstreamError) -> None:
        self.has_head |= exchange.method == b"HEAD"
        self.refused += 1
        exchange.respond(error.status, b"application/json", error_body(error))


async def _never(scope: object, receive: object, send: object) -> None:
    """No application."""


class RequestFuzz:
    """Feeds a connection of the gateway; one loop for all inputs."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._config = Config(_never, http="httptools", ws="none", lifespan="off", log_config=None)
        self._config.load()

    def close(self) -> None:
        self.loop.close()

    def __call__(self, data: bytes, rng: random.Random) -> str:
        """The cuts change nothing; each request has one whole answer, at most one refusal ends it all."""
        whole, pieced = self.feed([data]), self.feed(cut(data, rng))
        assert whole == pieced
        asked, refused, _ = whole
        return "refused" if refused else "served" if asked else "unfinished"

    def feed(self, pieces: list[bytes]) -> tuple[Any, ...]:
        """What came of it: the requests, how many refusals, the statuses of the answers."""
        asyncio.set_event_loop(self.loop)
        desk, line, state = Desk(), Line(), ServerState()
        connection = GatewayProtocol(desk, self._config, state)
        connection.connection_made(line)
        for piece in pieces:
            connection.data_received(piece)
        for _ in range(100):
            if connection._turns.active is None:
                break
            self.loop.run_until_complete(asyncio.sleep(0))
        answers = Collector()
        answers.feed(bytes(line.written).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""))
        statuses = [answer.status for answer in answers.answers]
        assert desk.refused <= 1
        assert desk.counters.snapshot()["unexpected_errors"] == 0
        if not desk.has_head:  # the collector would wait for the bodies of their answers
            assert all(answer.whole for answer in answers.answers)
            assert len(statuses) == len(desk.asked) + desk.refused
        connection.eof_received()
        connection.connection_lost(None)
        assert not state.connections
        if asyncio.all_tasks(self.loop):  # it was told to end
            self.loop.run_until_complete(asyncio.sleep(0))
            assert not asyncio.all_tasks(self.loop)
        asyncio.set_event_loop(None)
        return desk.asked, desk.refused, statuses


# Answers of an upstream.


class ResponseFuzz:
    """Feeds a connection to an upstream."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def close(self) -> None:
        self.loop.close()

    def __call__(self, data: bytes, rng: random.Random) -> str:
        """It ends as an answer or as a typed error, and the cuts change neither status nor body."""
        whole, pieced = self.feed([data]), self.feed(cut(data, rng))
        assert whole == pieced
        return "answer" if whole[-1] else "broken answer" if whole[0] else "no answer"

    def feed(self, pieces: list[bytes]) -> tuple[Any, ...]:
        """What came of it: status, headers, body, and whether it is whole."""
        ends: list[object] = []
        connection = Connection(self.loop, 2048, lambda _, why: ends.append(why), lambda _: None)
        line = Line()
        connection.connection_made(line)
        response = connection.send(b"GET / HTTP/1.1\r\n\r\n", b"")
        for piece in pieces:
            if line.closed:
                break
            connection.data_received(piece)
        if not line.closed:
            connection.eof_received()
        connection.connection_lost(None)
        assert len(ends) == 1
        assert response._is_over
        if response.error is not None:
            assert response.error.message
            assert response.error.status == 502
        body = b"".join(piece.data for piece in response._pieces)
        return response.status, response.headers, body, response.error is None
