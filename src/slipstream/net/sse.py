"""Framing of server-sent events (WHATWG HTML, "Interpreting an event stream"): bytes in, whole events out.

It opens nothing and decodes nothing: an event stays the bytes that came, its blank line included.
"""

import re

from slipstream.core.errors import UpstreamFailed

_BLANK_LINE = re.compile(rb"(?>\r\n|\n)(?:\r?\n|\r(?=[^\n]))|\r\r")
"""The end of a line and an empty line after it. A lone CR behind an LF waits for the next byte, which
may make it a CRLF; CR CR does not wait, or a stream of them would always be one event late."""
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventSplitter:
    """Cuts a stream of bytes into events, however it was cut into pieces on the way.

    Args:
        limit: most bytes of one event.
    """

    __slots__ = ("_buffer", "_has_returns", "_is_broken", "_limit", "_scanned")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._scanned = 0  # no event ends before this
        self._has_returns = False
        self._is_broken = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes; joined with `rest()` they are what was fed, byte by byte.

        Raises `UpstreamFailed` (code `event_too_large`) for an event beyond the limit; the events
        before it come out first.
        """
        if self._is_broken:
            raise self._too_large()
        if not self._has_returns:
            self._has_returns = b"\r" in data
        if self._buffer or self._has_returns:
            return self._checked(self._cut(data))
        if 0 <= data.find(b"\n\n") == len(data) - 2:  # nearly always: one event, alone
            return [data] if len(data) <= self._limit else self._checked([data])
        *ended, rest = data.split(b"\n\n")
        self._buffer += rest
        self._scanned = max(0, len(rest) - 1)
        return self._checked([part + b"\n\n" for part in ended])

    def rest(self) -> bytes:
        """What came after the last whole event."""
        if self._is_broken:
            raise self._too_large()
        return bytes(self._buffer)

    def _cut(self, data: bytes) -> list[bytes]:
        buffer = self._buffer
        buffer += data
        events: list[bytes] = []
        start = 0
        for match in _BLANK_LINE.finditer(buffer, self._scanned):
            events.append(bytes(memoryview(buffer)[start : match.end()]))
            start = match.end()
        del buffer[:start]
        self._scanned = max(0, len(buffer) - 3)  # the longest end is CR LF CR LF
        return events

    def _checked(self, events: list[bytes]) -> list[bytes]:
        limit = self._limit
        for index, event in enumerate(events):
            if len(event) > limit:
                self._is_broken = True
                del events[index:]
                break
        else:
            self._is_broken = len(self._buffer) > limit
        if self._is_broken and not events:
            raise self._too_large()
        return events

    def _too_large(self) -> UpstreamFailed:
        return UpstreamFailed(
            f"The upstream sent an event of more than {self._limit} bytes.",
            hint="`models.event_bytes` sets the limit.",
            code="event_too_large",
        )


def data_of(event: bytes) -> bytes:
    r"""The payload of an event: its `data` lines joined by line feeds; empty for a comment.

    Example:
        >>> data_of(b"data: [DONE]\n\n")
        b'[DONE]'
    """
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2]
    values: list[bytes] = []
    for line in _LINE_END.split(event.removeprefix(_BYTE_ORDER_MARK)):
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values)
