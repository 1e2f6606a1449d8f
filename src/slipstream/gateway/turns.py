"""The requests of one connection, in the order they came: which is being answered, which wait.

HTTP/1.1 lets a client send ahead and wants the answers in order. Starts nothing and closes nothing.
"""

from collections import deque

from slipstream.gateway.exchange import Exchange

WAITING_MAX = 32
"""Requests that may wait on one connection; nobody we know of sends more than a handful ahead."""


class Turns:
    """At most one exchange has its turn (`active`)."""

    __slots__ = ("_waiting", "active")

    def __init__(self) -> None:
        self._waiting: deque[Exchange] = deque()
        self.active: Exchange | None = None

    def take(self, exchange: Exchange) -> bool:
        """Take in the next request; whether it is its turn at once."""
        if self.active is None:
            self.active = exchange
            return True
        self._waiting.append(exchange)
        return False

    def pass_on(self) -> Exchange | None:
        """The active one is done; the one whose turn it is now, if any waits."""
        self.active = self._waiting.popleft() if self._waiting else None
        return self.active

    def last(self) -> Exchange | None:
        """The last that will be answered."""
        return self._waiting[-1] if self._waiting else self.active

    def is_crowded(self, bytes_max: int) -> bool:
        """Whether no more may be sent ahead, by number or by the bytes of the bodies that wait."""
        waiting = self._waiting
        return len(waiting) >= WAITING_MAX or sum(each.body_bytes for each in waiting) > bytes_max

    def leave(self) -> None:
        """The client has left: what is not answered in full is cancelled. May be called twice."""
        for exchange in (self.active, *self._waiting):
            if exchange is not None and not exchange.complete and not exchange.gone:
                exchange.gone = True
                if exchange.task is not None:
                    exchange.task.cancel()
        self._waiting.clear()
