"""One connection that asks: request out, answer in, one at a time. It decides no time and no next request."""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from slipstream.core import clock
from slipstream.testing.load.answers import Answer
from slipstream.testing.load.samples import ERRORS

RESET = ERRORS.index("reset")
INCOMPLETE = ERRORS.index("incomplete")
MALFORMED = ERRORS.index("malformed")
TOO_LARGE = ERRORS.index("too_large")


class Connection(asyncio.Protocol):
    """Reused as long as the server lets us.

    Args:
        answer: reads the answers.
        ended: called with the connection and the index of the error when a request is over.
        gone: called when it broke while it had nothing to do.
        bytes_max: most bytes of one answer.
    """

    __slots__ = (
        "_bytes_max",
        "_ended",
        "_gone",
        "_head",
        "_parser",
        "_transport",
        "answer",
        "idle_since",
        "is_asking",
        "is_open",
        "keeps_head",
        "row",
        "sent",
        "slot",
        "status",
    )

    def __init__(
        self,
        answer: Answer,
        ended: "Callable[[Connection, int], None]",
        gone: "Callable[[Connection], None]",
        *,
        bytes_max: int,
    ) -> None:
        self.answer = answer
        self._ended = ended
        self._gone = gone
        self._bytes_max = bytes_max
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self.is_asking = False
        self.is_open = False
        self.keeps_head = False
        self.idle_since = 0
        self.row = self.slot = self.sent = self.status = 0
        self._parser = answer.parser

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def ask(self, row: int, slot: int, request: bytes, sent: int) -> None:
        """Send a request; `sent` is now."""
        self.row, self.slot, self.sent = row, slot, sent
        self.status = 0
        self.answer.begin()
        self.is_asking = True
        assert self._transport is not None
        self._transport.write(request)

    @property
    def head(self) -> bytes:
        """What came first of the answer: its head, mostly."""
        return self._head

    def abort(self) -> None:
        """Close it now; nothing is called."""
        self.is_asking = self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        answer = self.answer
        if not self.is_asking:  # nothing was asked: whatever it is, it answers no question of ours
            self.is_open = False
            if self._transport is not None:
                self._transport.abort()
            return
        answer.now = clock.monotonic_ns()
        if answer.first_byte < 0:
            answer.first_byte = answer.now
            self._head = data
        answer.received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end(MALFORMED, is_reusable=False)
            return
        if answer.is_complete:
            self._complete()
        elif answer.received > self._bytes_max:
            self._end(TOO_LARGE, is_reusable=False)

    def _complete(self) -> None:
        self.status = status = self._parser.get_status_code()
        answer = self.answer
        if status < 200:  # 100 Continue, 103 Early Hints: the answer is still to come
            answer.is_complete = answer.is_in_body = False
            return
        self._end(answer.close(status), is_reusable=not answer.is_last)

    def _end(self, error: int, *, is_reusable: bool) -> None:
        self.is_asking = False
        if not is_reusable:
            self.is_open = False
            if self._transport is not None:
                self._transport.abort() if error else self._transport.close()
        self._ended(self, error)

    def eof_received(self) -> bool:
        """The server sends no more: the end of an answer without a length, a broken one else."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        was_open, self.is_open = self.is_open, False
        if not self.is_asking:
            if was_open:
                self._gone(self)
            return
        answer = self.answer
        answer.now = clock.monotonic_ns()
        self.is_asking = False
        if answer.first_byte < 0:
            self._ended(self, RESET)
        elif exc is None and answer.is_in_body and not is_framed(self._head):
            self.status = self._parser.get_status_code()
            self._ended(self, answer.close(self.status))
        else:
            if answer.is_in_body:
                self.status = self._parser.get_status_code()
            self._ended(self, INCOMPLETE if exc is None else RESET)


def is_framed(head: bytes) -> bool:
    """Whether a response says where it ends; if not, it ends with its connection."""
    fields = head.partition(b"\r\n\r\n")[0].lower()
    return b"\ncontent-length:" in fields or b"\ntransfer-encoding:" in fields
