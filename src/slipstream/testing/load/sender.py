"""Sends requests over HTTP and writes down what came of them. It decides no time."""

import asyncio
from collections import deque

from msgspec import Struct

from slipstream.core import clock
from slipstream.net.origin import Origin
from slipstream.testing.load.answers import answer_for
from slipstream.testing.load.columns import Recorder
from slipstream.testing.load.conductor import Conductor
from slipstream.testing.load.dialer import Dialer
from slipstream.testing.load.idents import Idents
from slipstream.testing.load.plan import SECOND, Shard
from slipstream.testing.load.run import RunOptions, Stopped
from slipstream.testing.load.samples import ERRORS, NEVER
from slipstream.testing.load.target import Target
from slipstream.testing.load.traffic import Bodies, Prompts
from slipstream.testing.load.wire import Connection
from slipstream.testing.load.words import Words

SWEEPS_UNTIL_ALL = 25
"""How seldom the deadlines of all requests are looked at, not only the earliest."""

IDLE_NS = 4 * SECOND
"""A connection unused for longer is not used again: servers close theirs after five seconds."""

DOWN_TRIES = 10
DOWN_NS = SECOND
"""A target that refused so many connections over such a time, and never opened one, is down."""

REFUSALS = frozenset(ERRORS.index(each) for each in ("http_3xx", "http_401", "http_403", "http_4xx"))
REFUSALS_MAX = 20
"""A target that refused so many requests over `DOWN_NS`, and took none, will not take the rest either."""
SERVER_ERROR = 400

TIMEOUT = ERRORS.index("timeout")
CANCELLED = ERRORS.index("cancelled")


class Parts(Struct, frozen=True, kw_only=True):
    """What a sender is made of."""

    shard: Shard
    target: Target
    options: RunOptions
    recorder: Recorder
    nonce: int
    bytes_max: int
    ids_max: int


class HttpSender(Conductor):
    """One worker's sending over HTTP.

    Args:
        parts: what to send, where to and where it is written down.
        over: gets why it ended, when there is nothing more to do.
    """

    def __init__(self, parts: Parts, over: "asyncio.Future[Stopped]") -> None:
        target, options, shard = parts.target, parts.options, parts.shard
        super().__init__(shard, options, parts.recorder, over, bytes_max=parts.bytes_max)
        self._target, self._options = target, options
        self._dialer = Dialer(
            target,
            ca_file=target.ca_file or options.ca_file,
            seconds=options.connect_seconds,
            local_ports=options.local_ports,
        )
        self._head = Origin(target.origin, unix_path="", ca_file="", connect_seconds=1).head
        self._method, self._path, self._headers = target.verb, target.path, target.wire_headers()
        self._bodies = Bodies(target, Prompts(shard, parts.nonce), shard.traffic.bodies)
        self._turns = shard.traffic.turns
        self._idle: deque[Connection] = deque()
        self._asking: dict[Connection, int] = {}
        self._dialing: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._sweeps = 0
        self._timeout = round(options.timeout_seconds * SECOND)
        self.idents = Idents(options.request_id_header, parts.ids_max)
        self.words = Words()
        self._is_served = False
        self._refusals = 0

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return bool(self._asking or self._dialing)

    @property
    def opened(self) -> int:
        """Connections opened so far."""
        return self._dialer.opened

    async def warm_up(self, connections: int) -> None:
        """Open connections before the first request; what fails here will fail again where it is measured."""
        opened = await asyncio.gather(*(self._dialer.open(self._connection) for _ in range(connections)))
        now = clock.monotonic_ns()
        for each, _ in opened:
            if each is not None:
                each.idle_since = now
                self._idle.append(each)

    def send(self, slot: int, number: int, intended_ns: int, lag_ns: int) -> None:
        """Send a request, over an idle connection or a new one."""
        if self._turns > 1:
            history = self.history(slot)
            body = self._bodies.body(number, tuple(history))
            history.append(number)
        else:
            body = self._bodies.body(number)
        request = self._head(self._method, self._path, self._headers, len(body)) + body
        recorder = self.recorder
        recorder.counts.sent_bytes += len(request)
        now = clock.monotonic_ns()
        row = recorder.begin(intended_ns, now - self.start, lag_ns)
        if self._idle:
            connection = self._idle.pop()
            self._asking[connection] = now + self._timeout
            connection.ask(row, slot, request, now)
            return
        task = asyncio.get_running_loop().create_task(self._connect(row, slot, request, now))
        self._dialing.add(task)

    async def _connect(self, row: int, slot: int, request: bytes, now: int) -> None:
        """The first request of a connection, whose opening is part of its time."""
        connection, error = await self._dialer.open(self._connection)
        task = asyncio.current_task()
        assert task is not None
        self._dialing.discard(task)
        if connection is not None:
            self._asking[connection] = now + self._timeout
            connection.ask(row, slot, request, now)
            return
        self._failures += 1
        at = clock.monotonic_ns() - self.start
        self.recorder.finish(row, (NEVER, NEVER, NEVER, at), [], (0, NEVER, NEVER, NEVER, 0), (0, error))
        if not self._dialer.opened and self._failures >= DOWN_TRIES and at > DOWN_NS:
            self.stop("target_down")
        self.released(slot, at, is_unreachable=True)

    def _connection(self) -> Connection:
        answer = answer_for(self._target.dialect, streaming=self._target.streaming)
        return Connection(answer, self._on_end, self._on_gone, bytes_max=self._options.answer_bytes_max)

    def _on_end(self, connection: Connection, error: int) -> None:
        """A request is over."""
        self._asking.pop(connection, None)
        now = connection.answer.now
        self._write_down(connection, error, now)
        if not self._is_served:
            self._count_refusal(error, now - self.start)
        if connection.is_open:
            connection.idle_since = now
            self._idle.append(connection)
        self.released(connection.slot, now - self.start, is_unreachable=False)

    def _count_refusal(self, error: int, at: int) -> None:
        """Until a request was not refused for what it is: whether there is any use in going on."""
        if error not in REFUSALS:
            self._is_served = True
            return
        self._refusals += 1
        if self._refusals >= REFUSALS_MAX and at > DOWN_NS:
            self.stop("refused")

    def _write_down(self, connection: Connection, error: int, now: int) -> None:
        answer, start = connection.answer, self.start
        first_byte, first, last = answer.first_byte, answer.first, answer.last
        self.recorder.finish(
            connection.row,
            (
                first_byte - start if first_byte >= 0 else NEVER,
                first - start if first >= 0 else NEVER,
                last - start if last >= 0 else NEVER,
                now - start,
            ),
            answer.gaps,
            (answer.chunks, answer.prompt, answer.output, answer.cached, answer.received),
            (connection.status, error),
        )
        if connection.row % self.idents.every == 0:
            self.idents.take(connection.row, connection.head)
        if error in REFUSALS or connection.status >= SERVER_ERROR:
            self.words.take(connection.status, connection.head)

    def _on_gone(self, connection: Connection) -> None:
        """An idle connection was closed by the server."""
        if connection in self._idle:
            self._idle.remove(connection)

    def look_after(self, now: int) -> None:
        """Time-outs, and connections that were idle for too long.

        Deadlines are in order, but for requests that had to connect first: now and then all are looked at.
        """
        self._sweeps += 1
        looks_at_all = self._sweeps % SWEEPS_UNTIL_ALL == 0
        late: list[Connection] = []
        for connection, deadline in self._asking.items():
            if deadline <= now:
                late.append(connection)
            elif not looks_at_all:
                break
        for connection in late:
            connection.abort()
            connection.answer.now = now
            self._on_end(connection, TIMEOUT)
        while self._idle and self._idle[0].idle_since < now - IDLE_NS:
            self._idle.popleft().abort()

    async def drop(self) -> None:
        """Write down what is under way, and close all connections."""
        now = clock.monotonic_ns()
        for connection in (*self._asking, *self._idle):
            if connection.is_asking:
                self._write_down(connection, CANCELLED, now)
            connection.abort()
        dialing = tuple(self._dialing)
        for task in dialing:
            task.cancel()
        if dialing:
            await asyncio.wait(dialing)
