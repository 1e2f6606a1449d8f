"""Faults on HTTP responses as a machine over the bytes that come from the upstream. Sans-I/O.

While no such fault is active the bytes pass untouched and at once; they are only followed. A response
is drawn for when its head is whole. Only an event stream that a fault fell on is framed anew.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from slipstream.testing import chaos_bodies as bodies
from slipstream.testing import chaos_faults as faults
from slipstream.testing.chaos_events import EventFaults, Finish, Flow, Pause, Step, Strike
from slipstream.testing.chaos_http import Body, End, Framer, Head, Opaque, Part
from slipstream.testing.chaos_toxics import Bandwidth, Cut, Hold, Piece, Timed

_MOST_REQUESTS = 1024
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """What of a request matters to its response."""

    method: bytes
    target: bytes


class RequestLog:
    """The requests that have no response yet, in order; a machine that only listens."""

    due = None

    def __init__(self) -> None:
        self._framer = Framer(responses=False)
        self._open: deque[Request] = deque()
        self.overflowed = False

    def push(self, at: int, piece: Piece) -> Iterator[Timed]:
        """Note the requests and pass the bytes as they are."""
        if isinstance(piece, bytes):
            for part in self._framer.feed(piece):
                if isinstance(part, Head):
                    method, target, _ = part.start.split(b" ")
                    self._open.append(Request(method, target))
            if len(self._open) > _MOST_REQUESTS:
                self.overflowed = True
                self._open.clear()
                self._framer.stop()
        yield at, piece

    def answered(self) -> Request | None:
        """The request that the next response belongs to."""
        return self._open.popleft() if self._open else None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which faults fall on a response, and what it costs them: the proxy's fault set behind a narrow door."""

    armed: Callable[[], bool]
    """Whether any fault on responses is active."""
    draw: Callable[[int, bytes], list[Strike]]
    """The faults that fall on response number n (from 0) of this connection, to a request for this target."""
    take: Callable[[faults.Fault], bool]
    """Counts a strike; False if the fault may not strike any more."""
    seen: Callable[[], None]
    """Hears of every final response whose head came."""


class Responses:
    """The machine of one connection's responses."""

    due = None

    def __init__(self, requests: RequestLog, choice: Choice) -> None:
        self._requests = requests
        self._choice = choice
        self._framer = Framer(responses=True, bodiless=self._bodiless)
        self._heads: deque[tuple[int, bytes]] = deque()  # number and target of heads not yet looked at
        self._armed = False
        self._answer = Answer([], choice.take)
        self._number = -1

    def push(self, at: int, piece: Piece) -> Iterator[Timed]:
        """Follow the bytes, and spoil what the dice say."""
        if not isinstance(piece, bytes):
            if piece is Cut.FIN and self._armed:
                for part in self._framer.eof():
                    yield from self._part(at, part)
                yield from self._answer.end_of_stream(at)
            yield at, piece
            return
        if self._framer.idle:
            # In the middle of a message it is too late to begin: its head may have gone out.
            self._armed = self._choice.armed()
            if self._requests.overflowed:
                self._framer.stop()
        parts = self._framer.feed(piece)
        if self._armed:
            for part in parts:
                yield from self._part(at, part)
            return
        self._heads.clear()
        yield at, piece

    def _bodiless(self, head: Head) -> bool:
        """Match a head to its request; the framer asks about every head of a read before any is looked at."""
        if head.status < 200:
            return True
        request = self._requests.answered()
        self._number += 1
        self._heads.append((self._number, request.target if request else b""))
        self._choice.seen()
        return head.status in {204, 304} or (request is not None and request.method == b"HEAD")

    def _part(self, at: int, part: Part) -> Iterator[Timed]:
        match part:
            case Head() if part.status < 200:
                yield at, part.raw
            case Head():
                self._answer = Answer(self._choice.draw(*self._heads.popleft()), self._choice.take)
                yield from self._answer.head(at, part)
            case Body():
                yield from self._answer.body(at, part)
            case End():
                yield from self._answer.end(at, part)
            case Opaque():
                yield at, part.raw


class Answer:
    """One response and the faults that fell on it.

    Args:
        strikes: the faults, in their order.
        take: counts a strike; False if the fault may not strike any more.
    """

    def __init__(self, strikes: list[Strike], take: Callable[[faults.Fault], bool]) -> None:
        self._strikes = strikes
        self._take = take
        self._not_before = 0
        self._pace: Bandwidth | None = None
        self._events: EventFaults | None = None
        self._chunked = False
        self._silent = False

    def head(self, at: int, head: Head) -> Iterator[Timed]:
        """What is sent in the place of the head, and of the body where a fault takes its place too."""
        raw = self._frame_events(head)
        for fault, dice in self._strikes:
            if not isinstance(fault, faults.SseCut | faults.SseFault | faults.SseDoubleDone) and self._take(
                fault
            ):
                match fault:
                    case faults.HttpHang() if fault.ms:
                        self._not_before = at + int(fault.ms * _MS)
                    case faults.HttpHang():
                        yield at, Hold(fault.name)
                    case faults.HttpTrickle():
                        self._pace = Bandwidth(fault.bytes_per_second)
                    case faults.HttpGarbage():
                        raw = bodies.garbage(raw, dice)
                    case faults.HttpHeaderFlood():
                        raw = bodies.header_flood(raw, fault)
                    case faults.HttpContentType():
                        raw = bodies.content_type(raw, fault)
                    case _:
                        yield from self._instead(at, head, fault)
                        return
        yield self._time(at), raw
        if self._events is not None:
            yield from self._steps(at, self._events.begin())

    def body(self, at: int, body: Body) -> Iterator[Timed]:
        """What is sent in the place of these bytes of the body."""
        if self._silent:
            return
        if self._events is None:
            yield from self._send(at, body.raw)
        elif body.data:
            yield from self._steps(at, self._events.feed(body.data))

    def end(self, at: int, end: End) -> Iterator[Timed]:
        """What is sent at the end of the response."""
        if self._silent:
            return
        yield from self.end_of_stream(at)
        raw = end.raw
        if self._events is not None:
            raw = (end.raw or b"0\r\n\r\n") if self._chunked else b""
        if raw:
            yield from self._send(at, raw)
        self._silent = True

    def end_of_stream(self, at: int) -> Iterator[Timed]:
        """Give what was kept back of an event that never became whole."""
        rest = self._events.rest() if self._events is not None and not self._silent else b""
        if rest:
            yield from self._send(at, self._chunk(rest))

    def _instead(self, at: int, head: Head, fault: faults.HttpFault) -> Iterator[Timed]:
        """Another answer than the upstream's; the connection ends with it."""
        self._silent = True
        made: Iterator[bytes] = iter(())
        cut = Cut.CLOSE
        match fault:
            case faults.HttpReset():
                cut = Cut.RESET
            case faults.HttpStatus():
                made = bodies.error(fault)
            case faults.HttpRedirect():
                made = bodies.redirect(fault)
            case faults.HttpGzipBomb():
                made = bodies.gzip_bomb(head, fault)
            case faults.HttpBodyFlood():
                made = bodies.body_flood(head, fault)
        for piece in made:
            yield self._time(at), piece
        yield self._time(at), cut

    def _frame_events(self, head: Head) -> bytes:
        """The head to send; with faults on an event stream, of a body that is framed anew."""
        sse = [
            (fault, dice)
            for fault, dice in self._strikes
            if isinstance(fault, faults.SseCut | faults.SseFault | faults.SseDoubleDone)
        ]
        is_stream = head.get(b"content-type").lower().startswith(b"text/event-stream")
        if not sse or not is_stream or head.get(b"content-encoding") not in {b"", b"identity"}:
            return head.raw
        self._events = EventFaults(sse, self._take)
        sized = bool(head.get(b"content-length"))
        self._chunked = head.chunked or (sized and head.start.startswith(b"HTTP/1.1"))
        if not sized:
            return head.raw
        framing = [(b"transfer-encoding", b"chunked")] if self._chunked else []
        return bodies.rewritten(head, without={b"content-length", b"transfer-encoding"}, extra=framing)

    def _steps(self, at: int, steps: Iterator[Step]) -> Iterator[Timed]:
        for step in steps:
            match step:
                case bytes():
                    yield from self._send(at, self._chunk(step))
                case Flow():
                    if self._chunked:
                        yield from self._send(at, b"%x\r\n" % step.size)
                    for piece in step.pieces:
                        yield from self._send(at, piece)
                    if self._chunked:
                        yield from self._send(at, b"\r\n")
                case Pause():
                    self._not_before = self._time(at) + step.ns
                case Hold():
                    yield self._time(at), step
                case Finish():
                    self._silent = True
                    if self._chunked:
                        yield from self._send(at, b"0\r\n\r\n")
                    else:
                        yield self._time(at), Cut.CLOSE
                case Cut():
                    self._silent = True
                    yield from self._send(at, step)

    def _send(self, at: int, piece: bytes | Cut) -> Iterator[Timed]:
        """At the pace and not before the time that faults ask for."""
        if self._pace is None:
            yield self._time(at), piece
        else:
            yield from self._pace.push(self._time(at), piece)

    def _time(self, at: int) -> int:
        return max(at, self._not_before)

    def _chunk(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
