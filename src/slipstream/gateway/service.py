"""What a connection hands its requests to. The server fills it; a connection knows nothing else of it."""

from collections.abc import Awaitable
from typing import Protocol

from slipstream.config.settings import Server
from slipstream.core.errors import SlipstreamError
from slipstream.core.meters import Counters
from slipstream.gateway.exchange import Exchange
from slipstream.gateway.guard import Guard


class Service(Protocol):
    """The server behind all connections."""

    settings: Server
    guard: Guard
    counters: Counters
    date: bytes
    draining: bool

    def handler(self, exchange: Exchange) -> Awaitable[None]:
        """Serve a request; it may raise nothing."""
        ...

    def refuse(self, exchange: Exchange, error: SlipstreamError) -> None:
        """Answer with an error in the dialect of the route."""
        ...
