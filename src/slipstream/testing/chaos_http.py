"""Cuts a stream of HTTP/1.1 messages into heads, bodies and ends, wherever the reads cut it.

Sans-I/O. Joined, the `raw` of all parts is the stream itself. It judges nothing: what it cannot follow
(a TLS record, an upgraded connection, an impossible length) is passed as `Opaque` from there on.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

_HEAD_BYTES = 64 * 1024
_LINE_BYTES = 4096
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(rb"([!-~]+) ([^\s]+) HTTP/1\.[01]")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")


@dataclass(frozen=True, slots=True)
class Head:
    """A message's first line and header lines."""

    raw: bytes
    start: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case; values without surrounding blanks."""

    def get(self, name: bytes) -> bytes:
        """The header's values, joined by commas; empty if it is not there."""
        return b", ".join(value for key, value in self.headers if key == name)

    @property
    def status(self) -> int:
        """Of a response; 0 for a request."""
        found = _STATUS_LINE.fullmatch(self.start)
        return int(found[1]) if found else 0

    @property
    def chunked(self) -> bool:
        """Whether the body is framed in chunks."""
        return self.get(b"transfer-encoding").lower().split(b",")[-1].strip() == b"chunked"


@dataclass(frozen=True, slots=True)
class Body:
    """A part of a body: as it came, and without its chunk framing."""

    raw: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The end of a message: the last chunk and trailers, or nothing."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Opaque:
    """Bytes that are not followed any more."""

    raw: bytes


Part = Head | Body | End | Opaque


class _State(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    UNTIL_EOF = auto()
    OPAQUE = auto()


@dataclass(slots=True)
class _Pending:
    """Body bytes of one feed, joined to one part."""

    raw: list[bytes] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)


class Framer:
    """Follows one direction of a connection.

    Args:
        responses: whether it carries responses; else requests.
        bodiless: says of a response's head that no body follows whatever it declares (HEAD, 204, 304, 1xx).
    """

    def __init__(self, *, responses: bool, bodiless: Callable[[Head], bool] = lambda _: False) -> None:
        self._responses = responses
        self._bodiless = bodiless
        self._state = _State.HEAD
        self._held = b""
        self._at = 0
        self._left = 0
        self._pending = _Pending()
        self._parts: list[Part] = []

    @property
    def idle(self) -> bool:
        """Whether it stands between two messages."""
        return self._state is _State.HEAD and not self._held

    def feed(self, data: bytes) -> list[Part]:
        """Take bytes and give the parts that they complete; at most a head or one line is kept back."""
        self._held += data
        steps = {
            _State.HEAD: self._head,
            _State.LENGTH: self._length,
            _State.CHUNK_SIZE: self._chunk_size,
            _State.CHUNK: self._length,
            _State.CHUNK_END: self._chunk_end,
            _State.TRAILER: self._trailer,
            _State.UNTIL_EOF: self._until_eof,
            _State.OPAQUE: self._opaque,
        }
        while self._at < len(self._held) and steps[self._state]():
            pass
        self._held, self._at = self._held[self._at :], 0
        return self._give()

    def stop(self) -> None:
        """Follow no further: everything from here on is opaque."""
        self._state = _State.OPAQUE

    def eof(self) -> list[Part]:
        """The stream is over: give what was kept back, and the end of a body that only this ends."""
        if self._state is _State.UNTIL_EOF:
            self._emit(End(b""))
            self._state = _State.HEAD
        if self._held:
            self._emit(Opaque(self._held))
            self._held = b""
        return self._give()

    def _give(self) -> list[Part]:
        self._join()
        parts, self._parts = self._parts, []
        return parts

    def _emit(self, part: Part) -> None:
        self._join()
        self._parts.append(part)

    def _join(self) -> None:
        if self._pending.raw:
            self._parts.append(Body(b"".join(self._pending.raw), b"".join(self._pending.data)))
            self._pending = _Pending()

    def _cut(self, end: int) -> bytes:
        """Take what is held up to `end`."""
        taken = self._held[self._at : end]
        self._at = end
        return taken

    def _pass(self, end: int, *, is_data: bool) -> None:
        """Move bytes from what is held to the pending body part."""
        taken = self._cut(end)
        self._pending.raw.append(taken)
        if is_data:
            self._pending.data.append(taken)

    def _head(self) -> bool:
        if self._responses and not b"HTTP/1.".startswith(self._held[self._at : self._at + 7]):
            return self._give_up()
        found = self._find_head_end()
        if found is None:
            return self._too_long(_HEAD_BYTES)
        head = _read_head(self._held[self._at : found.end()])
        line = (_STATUS_LINE if self._responses else _REQUEST_LINE).fullmatch(head.start)
        state = self._framing(head) if line is not None else None
        if state is None:
            return self._give_up()
        self._at = found.end()
        self._emit(head)
        if head.status == 101:
            state = _State.OPAQUE
        elif self._responses and self._bodiless(head):
            state = _State.HEAD
            if head.status >= 200:
                self._emit(End(b""))
        elif state is _State.HEAD:
            self._emit(End(b""))
        self._state = state
        return True

    def _framing(self, head: Head) -> _State | None:
        """How the body is framed; HEAD = there is none, None = no telling."""
        if head.get(b"transfer-encoding"):
            if head.chunked:
                return _State.CHUNK_SIZE
            return _State.UNTIL_EOF if self._responses else None
        length = head.get(b"content-length")
        if length:
            if not length.isdigit() or len(length) > 18:
                return None
            self._left = int(length)
            return _State.LENGTH if self._left else _State.HEAD
        return _State.UNTIL_EOF if self._responses else _State.HEAD

    def _length(self) -> bool:
        end = min(self._at + self._left, len(self._held))
        self._left -= end - self._at
        self._pass(end, is_data=True)
        if not self._left:
            if self._state is _State.CHUNK:
                self._state = _State.CHUNK_END
            else:
                self._emit(End(b""))
                self._state = _State.HEAD
        return True

    def _chunk_size(self) -> bool:
        found = _CHUNK_SIZE.match(self._held, self._at, self._at + _LINE_BYTES)
        if found is None:
            # An unfinished line may still become a size; a finished one that does not match cannot.
            return self._give_up() if self._held.find(b"\n", self._at) >= 0 else self._too_long(_LINE_BYTES)
        self._left = int(found[1], 16)
        if self._left:
            self._pass(found.end(), is_data=False)
            self._state = _State.CHUNK
            return True
        self._state = _State.TRAILER
        return True

    def _chunk_end(self) -> bool:
        for end in (b"\r\n", b"\n"):
            if self._held.startswith(end, self._at):
                self._pass(self._at + len(end), is_data=False)
                self._state = _State.CHUNK_SIZE
                return True
        return False if self._held[self._at :] == b"\r" else self._give_up()

    def _trailer(self) -> bool:
        """What is held begins with the last chunk's size line; it is kept until the trailers are whole."""
        found = self._find_head_end()
        if found is None:
            return self._too_long(_HEAD_BYTES)
        self._emit(End(self._cut(found.end())))
        self._state = _State.HEAD
        return True

    def _until_eof(self) -> bool:
        self._pass(len(self._held), is_data=True)
        return True

    def _opaque(self) -> bool:
        self._emit(Opaque(self._cut(len(self._held))))
        return True

    def _find_head_end(self) -> re.Match[bytes] | None:
        return _HEAD_END.search(self._held, self._at, self._at + _HEAD_BYTES)

    def _too_long(self, most: int) -> bool:
        """Wait for more, unless what is there is already more than a head or line may have."""
        return self._give_up() if len(self._held) - self._at >= most else False

    def _give_up(self) -> bool:
        self._state = _State.OPAQUE
        return True


def _read_head(raw: bytes) -> Head:
    start, *lines = re.split(rb"\r?\n", raw.rstrip(b"\r\n"))
    pairs = (line.partition(b":") for line in lines)
    return Head(raw, start, tuple((name.strip().lower(), value.strip()) for name, _, value in pairs))
