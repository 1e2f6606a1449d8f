"""The attempt loop: select a model, open it, wait for its first byte; again until one answers.

It is repeated only while nothing has been passed on: the first byte decides (DESIGN §3).
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from msgspec import Struct

from slipstream.core import clock
from slipstream.core.chat import ChatRequest
from slipstream.core.errors import UpstreamFailed, UpstreamTimeout
from slipstream.core.meters import Counters
from slipstream.core.ports import Chunk, Head, Reply
from slipstream.core.record import Record
from slipstream.flow.select import Catalog, Target
from slipstream.flow.watch import Watch

RETRIED_STATUSES = frozenset({500, 502, 503, 504})
"""Answers of an upstream after which another attempt makes sense; 429 joins with its Retry-After later."""


class Patience(Struct, frozen=True):
    """How long to wait for what, in seconds, and how often to try."""

    attempts: int = 2
    first_token_seconds: float = 60.0
    idle_seconds: float = 30.0
    total_seconds: float = 600.0


class Opened(Struct, frozen=True):
    """A reply whose first chunk has arrived (None: it has no body)."""

    reply: Reply
    body: AsyncIterator[Chunk]
    first: Chunk | None

    @property
    def head(self) -> Head:
        """Status and headers."""
        return self.reply.head


class Attempts:
    """Opens requests: the one place that knows how often and how long."""

    def __init__(self, catalog: Catalog, patience: Patience, counters: Counters) -> None:
        self._catalog = catalog
        self._patience = patience
        self._counters = counters

    async def open(self, request: ChatRequest, record: Record, watch: Watch) -> Opened:
        """The first attempt that answers. Raises what the last one raised."""
        tried: list[Target] = []
        while True:
            with record.step("select"):
                target = self._catalog.choose(request.model, request.route, tried=tried)
            record.model = target.name
            record.upstream = target.model.name
            record.attempts = len(tried) + 1
            tried.append(target)
            last = len(tried) >= self._patience.attempts
            try:
                opened = await self._open(target, request, record, watch)
            except UpstreamFailed as error:
                self._counters.count("upstream_errors")
                if isinstance(error, UpstreamTimeout):
                    self._counters.count("upstream_timeouts")
                    raise  # its time is spent; a second wait of the same length helps nobody
                if last or self._left(record) <= 0:
                    raise
            else:
                if opened.head.status not in RETRIED_STATUSES or last:
                    return opened
                self._counters.count("upstream_errors")
                await opened.reply.aclose()
            self._counters.count("upstream_retries")

    async def _open(self, target: Target, request: ChatRequest, record: Record, watch: Watch) -> Opened:
        if target.name not in ("*", request.model):
            request = request.replacing({"model": msgspec.json.encode(target.name)})
        seconds = min(self._patience.first_token_seconds, self._left(record))
        watch.expect(seconds, look=self._patience.idle_seconds)
        reply: Reply | None = None
        opened: Opened | None = None
        try:
            with record.step("open"):
                reply = await target.model.open(request, record)
            body = aiter(reply)
            with record.step("first_byte"):
                first = await anext(body, None)
            opened = Opened(reply, body, first)
        except asyncio.CancelledError:
            if not watch.overdue():
                raise
            raise UpstreamTimeout(
                f"The model `{target.name}` sent nothing for {seconds:g} s.",
                hint="The setting models.first_token_seconds bounds this wait.",
            ) from None
        finally:  # whatever ended it, cancellation too: an answer nobody will read is let go of
            if opened is None and reply is not None:
                await reply.aclose()
        return opened

    def _left(self, record: Record) -> float:
        spent = (clock.monotonic_ns() - record.origin_ns) / 1e9
        left = self._patience.total_seconds - spent
        if left <= 0:
            raise UpstreamTimeout("The request's whole time is spent.", hint="See models.total_seconds.")
        return left
