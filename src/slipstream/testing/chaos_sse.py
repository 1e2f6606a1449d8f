"""Cuts a body into server-sent events, and the ways an event can be broken. Sans-I/O.

Events keep their bytes: joined, what comes out is what went in.
"""

import random
import re
from dataclasses import dataclass

_EVENT_BYTES = 1024 * 1024
# Atomic groups: a CRLF is one line end and never two.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BAD_UTF8 = (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xc0\xaf")


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it came, its blank line included, and its data; None = a comment or a part of one."""

    raw: bytes
    data: bytes | None

    @property
    def done(self) -> bool:
        """Whether it is the `[DONE]` that ends a stream of chat completions."""
        return self.data is not None and self.data.strip() == b"[DONE]"


class EventCutter:
    """Gives whole events; what grows beyond 1 MiB without a blank line is passed as it comes, uncounted."""

    def __init__(self) -> None:
        self._held = b""
        self._seen = 0
        self._overflowing = False

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes and give the events that they complete."""
        self._held += data
        events: list[Event] = []
        start = 0
        while (end := self._end(max(start, self._seen))) is not None:
            raw, start = self._held[start:end], end
            events.append(Event(raw, None if self._overflowing else _data(raw)))
            self._overflowing = False
        self._held = self._held[start:]
        if len(self._held) > _EVENT_BYTES:
            # Three bytes stay: the longest beginning of a blank line.
            events.append(Event(self._held[:-3], None))
            self._held, self._overflowing = self._held[-3:], True
        self._seen = max(0, len(self._held) - 3)
        return events

    def rest(self) -> bytes:
        """What no blank line ended, at the end of the stream."""
        held, self._held, self._seen = self._held, b"", 0
        return held

    def _end(self, start: int) -> int | None:
        found = _BLANK_LINE.search(self._held, start)
        if found is None:
            return None
        # A CR at the very end may be half a CRLF: wait, so that events do not depend on how reads fell.
        return None if found.end() == len(self._held) and found[0].endswith(b"\r") else found.end()


def _data(raw: bytes) -> bytes | None:
    lines = [
        value.removeprefix(b" ")
        for line in _LINE_END.split(raw)
        for name, _, value in [line.partition(b":")]
        if name == b"data"
    ]
    return b"\n".join(lines) if lines else None


def event(data: bytes) -> bytes:
    """An event that carries this data."""
    return b"".join(b"data: " + line + b"\n" for line in data.split(b"\n")) + b"\n"


def half(data: bytes, dice: random.Random) -> bytes:
    """The event with its data cut off at a random inner point."""
    return event(data[: dice.randrange(1, len(data))] if len(data) > 1 else b"")


def bad_utf8(data: bytes, dice: random.Random) -> bytes:
    """The event with bytes inside that no UTF-8 text has."""
    at = dice.randint(1, max(1, len(data) - 1))
    return event(data[:at] + dice.choice(_BAD_UTF8) + data[at:])
