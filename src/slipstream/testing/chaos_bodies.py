"""The answers that the fault proxy makes up itself, and the heads that it spoils. Bytes only.

Large bodies are made piece by piece as they are read, so that a flood costs no memory here.
"""

import json
import random
import zlib
from collections.abc import Iterator
from http import HTTPStatus

from slipstream.testing import chaos_faults as faults
from slipstream.testing.chaos_http import Head

_MIB = 1024 * 1024
_PIECE = 64 * 1024
_FRAMING = {b"content-length", b"transfer-encoding", b"content-encoding", b"connection", b"trailer"}
_PRINTABLE = bytes(each for each in range(0x21, 0x100) if each != 0x7F)


def head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A response's head."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Chaos"
    lines = [f"HTTP/1.1 {status} {reason}".encode(), *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def rewritten(old: Head, *, without: set[bytes], extra: list[tuple[bytes, bytes]]) -> bytes:
    """The head with some header lines taken out and others put in at its end."""
    kept = [(name, value) for name, value in old.headers if name not in without]
    lines = [old.start, *(name + b": " + value for name, value in [*kept, *extra])]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def error(fault: faults.HttpStatus) -> Iterator[bytes]:
    """An error answer in OpenAI's shape."""
    message = {"message": f"Fault {fault.name}: status {fault.code}.", "type": "chaos", "code": "chaos"}
    body = json.dumps({"error": message}).encode() if fault.code not in {204, 304} else b""
    retry = [(b"retry-after", fault.retry_after.encode())] if fault.retry_after else []
    yield (
        head(
            fault.code,
            [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                *retry,
                (b"connection", b"close"),
            ],
        )
        + body
    )


def redirect(fault: faults.HttpRedirect) -> Iterator[bytes]:
    """A redirect without a body."""
    location = fault.location.encode()
    yield head(fault.code, [(b"location", location), (b"content-length", b"0"), (b"connection", b"close")])


def gzip_bomb(old: Head, fault: faults.HttpGzipBomb) -> Iterator[bytes]:
    """The head with a gzipped body of zeros."""
    zeros = bytes(_MIB)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    # A full flush forgets what was before: the same block again is the next MiB of zeros.
    block = deflate.compress(zeros) + deflate.flush(zlib.Z_FULL_FLUSH)
    prefix, last = b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x03\0"
    size = len(prefix) + len(block) * fault.mb + len(last) + 8
    yield rewritten(old, without=_FRAMING, extra=[(b"content-encoding", b"gzip"), *_sized(size)]) + prefix
    checksum = 0
    for _ in range(fault.mb):
        checksum = zlib.crc32(zeros, checksum)
        yield block
    length = fault.mb * _MIB & 0xFFFFFFFF
    yield last + checksum.to_bytes(4, "little") + length.to_bytes(4, "little")


def body_flood(old: Head, fault: faults.HttpBodyFlood) -> Iterator[bytes]:
    """The head with a body of spaces, which no JSON reader may refuse before its end."""
    yield rewritten(old, without=_FRAMING, extra=_sized(fault.mb * _MIB))
    piece = b" " * _PIECE
    for _ in range(fault.mb * _MIB // _PIECE):
        yield piece


def long_event(fault: faults.SseLongLine) -> tuple[int, Iterator[bytes]]:
    """An event with one long line of data: its size, and its bytes piece by piece."""
    prefix, suffix = b'data: {"chaos": "', b'"}\n\n'

    def pieces() -> Iterator[bytes]:
        piece = b"a" * _PIECE
        yield prefix
        for _ in range(fault.mb * _MIB // _PIECE):
            yield piece
        yield suffix

    return len(prefix) + fault.mb * _MIB + len(suffix), pieces()


def garbage(old: bytes, dice: random.Random) -> bytes:
    """The head with its first line replaced by random bytes, which are never a status line."""
    line = bytes(dice.choice(_PRINTABLE) for _ in range(dice.randint(8, 40)))
    return b"\xff" + line + b"\r\n" + old.partition(b"\n")[2]


def header_flood(old: bytes, fault: faults.HttpHeaderFlood) -> bytes:
    """The head with many more lines."""
    start, _, rest = old.partition(b"\n")
    lines = (f"x-chaos-{number:06d}: ".ljust(fault.size, "a") for number in range(fault.count))
    return start + b"\n" + "".join(f"{line}\r\n" for line in lines).encode() + rest


def content_type(old: bytes, fault: faults.HttpContentType) -> bytes:
    """The head with another content type."""
    start, *lines = old.rstrip(b"\r\n").split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() != b"content-type"]
    return b"\r\n".join([start, *kept, b"content-type: " + fault.value.encode()]) + b"\r\n\r\n"


def _sized(size: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(size).encode()), (b"connection", b"close")]
