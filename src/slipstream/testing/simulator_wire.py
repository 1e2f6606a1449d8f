"""A simulated answer as bytes of HTTP/1.1, with the faults that need a connection. It sends nothing."""

import zlib
from collections.abc import Iterator
from http import HTTPStatus

from msgspec import Struct

from slipstream.models.simulated_plan import Act, End, Plan

PIECE_BYTES = 64 * 1024
"""Size of the pieces of a padded or compressed body."""


class Write(Struct, frozen=True):
    """Bytes to send, `after_ns` after the write before them, and how the answer ends with them.

    `alone`: not to be joined with the next write.
    """

    after_ns: int
    data: bytes
    end: End = ""
    alone: bool = False


class Framing(Struct, frozen=True):
    """How this request's answer is framed: by what the client can take."""

    chunked: bool = True
    keep_alive: bool = True
    head_only: bool = False


def message(
    status: int, body: bytes, *, framing: Framing, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """A whole JSON answer."""
    fields = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers)
    return _head(status, fields, keep_alive=framing.keep_alive) + (b"" if framing.head_only else body)


def writes(plan: Plan, acts: Iterator[Act], framing: Framing) -> Iterator[Write]:
    """The writes of an answer, lazily: `acts` is asked for the next one when the last write is done."""
    body = _altered(plan)
    length = None if plan.head.streamed else len(plan.body) if body is None else body.length
    chunked = length is None and framing.chunked
    head = _plan_head(plan, length, framing)
    script = plan.script
    plain = _framed(acts, head, body, chunked=chunked)
    slow, drip, split = script.find("slow_header"), script.find("drip"), script.find("split")
    if drip is not None:
        return _paced(plain, drip.number)
    if split is not None:
        return _split(plain, int(split.number))
    if slow is not None:
        return _slow_head(plain, len(head), slow.number)
    return plain


class _Altered(Struct, frozen=True):
    """A body that is made while it is sent; `length` None = not known before."""

    length: int | None
    pieces: Iterator[bytes]


def _altered(plan: Plan) -> _Altered | None:
    pad, bomb = plan.script.find("pad"), plan.script.find("gzip_bomb")
    if plan.head.streamed or plan.head.status != 200:
        return None
    if bomb is not None:
        return _Altered(None, _compressed(int(bomb.number)))
    if pad is not None:
        return _Altered(len(plan.body) + int(pad.number), _padded(plan.body, int(pad.number)))
    return None


def _padded(body: bytes, count: int) -> Iterator[bytes]:
    """The body with spaces behind its opening brace: the same JSON."""
    yield body[:1]
    for start in range(0, count, PIECE_BYTES):
        yield b" " * min(PIECE_BYTES, count - start)
    yield body[1:]


def _compressed(count: int) -> Iterator[bytes]:
    deflate = zlib.compressobj(wbits=31)
    for start in range(0, count, PIECE_BYTES):
        piece = deflate.compress(bytes(min(PIECE_BYTES, count - start)))
        if piece:
            yield piece
    yield deflate.flush()


def _plan_head(plan: Plan, length: int | None, framing: Framing) -> bytes:
    script, fields = plan.script, [(b"content-type", plan.head.content_type)]
    if length is not None:
        fields.append((b"content-length", b"%d" % length))
    elif framing.chunked:
        fields.append((b"transfer-encoding", b"chunked"))
    if plan.head.streamed:
        fields.append((b"cache-control", b"no-cache"))
    elif script.has("gzip_bomb") and plan.head.status == 200:
        fields.append((b"content-encoding", b"gzip"))
    fields.extend(plan.head.headers)
    fields.extend(
        (b"x-flood-%d" % number, b"flood") for number in range(int(script.number("header_flood", 0)))
    )
    return _head(plan.head.status, tuple(fields), keep_alive=framing.keep_alive)


def _head(status: int, fields: tuple[tuple[bytes, bytes], ...], *, keep_alive: bool) -> bytes:
    lines = [
        b"HTTP/1.1 %d %b" % (status, _PHRASES.get(status, b"Simulated")),
        b"server: slipstream-simulator",
    ]
    lines += [b"%b: %b" % field for field in fields]
    if not keep_alive:
        lines.append(b"connection: close")
    return b"\r\n".join([*lines, b"", b""])


def _framed(acts: Iterator[Act], head: bytes, body: _Altered | None, *, chunked: bool) -> Iterator[Write]:
    waiting = head
    for act in acts:
        if body is not None and act.end == "done":
            yield from _streamed_out(body, waiting, act.after_ns, chunked=chunked)
            return
        parts = []
        if waiting and (act.head or act.events):
            parts, waiting = [waiting], b""
        parts += [_chunk(event) for event in act.events if event] if chunked else act.events
        if chunked and act.end == "done":
            parts.append(b"0\r\n\r\n")
        yield Write(act.after_ns, b"".join(parts), act.end)


def _streamed_out(body: _Altered, head: bytes, after_ns: int, *, chunked: bool) -> Iterator[Write]:
    yield Write(after_ns, head)
    for piece in body.pieces:
        yield Write(0, _chunk(piece) if chunked else piece, alone=True)  # others have their turn in between
    yield Write(0, b"0\r\n\r\n" if chunked else b"", "done")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _split(plain: Iterator[Write], size: int) -> Iterator[Write]:
    """Each `size` bytes on their own."""
    for write in plain:
        data, after_ns = write.data, write.after_ns
        for start in range(0, len(data) - size, size):
            yield Write(after_ns, data[start : start + size], alone=True)
            after_ns = 0
        rest = (len(data) - 1) // size * size if data else 0
        yield Write(after_ns, data[rest:], write.end, alone=True)


def _paced(plain: Iterator[Write], rate: float) -> Iterator[Write]:
    """No more than `rate` bytes a second: in pieces of a hundredth of a second, of one byte at least."""
    size = max(1, int(rate / 100))
    for write in plain:
        after_ns = write.after_ns
        for start in range(0, len(write.data), size):
            piece = write.data[start : start + size]
            yield Write(after_ns + int(len(piece) / rate * 1e9), piece)
            after_ns = 0
        yield Write(after_ns, b"", write.end)


def _slow_head(plain: Iterator[Write], length: int, seconds: float) -> Iterator[Write]:
    """The head byte by byte, the rest as it comes."""
    left = length
    for write in plain:
        after_ns, data = write.after_ns, write.data
        while data and left:
            yield Write(after_ns + int(seconds / length * 1e9), data[:1])
            after_ns, data, left = 0, data[1:], left - 1
        yield Write(after_ns, data, write.end)


_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
