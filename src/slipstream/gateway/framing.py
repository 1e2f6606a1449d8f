"""What the head of a request must look like before a byte of its body is taken. Pure checks on bytes.

RFC 9112 leaves a server room to guess; whoever stands before us may guess differently, and two readings
of one stream are how requests are smuggled. So nothing here is repaired: one version, one length, one
Host, one coding, or the request is refused and its connection closed. Who may ask is `guard`'s business.
"""

from slipstream.config.settings import Server
from slipstream.core.errors import BadRequest
from slipstream.gateway.exchange import Exchange

LENGTH_DIGITS = 20
"""Of 64 bits. A longer one begins with zeros, and with some thousand of them Python refuses to read it."""

CHUNK_OVERHEAD = 16
"""Bytes on the wire for one byte of a chunked body; single bytes in chunks of their own take 6."""

CHUNK_OVERHEAD_FREE = 64 * 1024
"""Bytes of a body's framing that are not held against it: chunk extensions, trailers."""


def head_error(exchange: Exchange, hosts: int, version: str) -> BadRequest | None:
    """What makes this head ambiguous or none of ours, if anything.

    `hosts` is how many Host lines came, `version` what stood in the request line.
    """
    headers = exchange.headers
    if version not in ("1.1", "1.0"):
        return BadRequest("This server speaks HTTP/1.1.", code="http_version", status=505)
    if hosts != 1:
        return BadRequest("A request must have exactly one Host.", code="invalid_host")
    if exchange.authority and exchange.authority.lower() != headers[b"host"].lower():
        return BadRequest("The request target and the Host name different servers.", code="invalid_host")
    if b"transfer-encoding" in headers:
        if not exchange.http11 or b"content-length" in headers:
            return _ambiguous("The length of the body is ambiguous.")
        if headers[b"transfer-encoding"].lower() != b"chunked":
            return BadRequest("Only chunked bodies are read.", code="transfer_coding", status=501)
    elif b"content-length" in headers:
        length = headers[b"content-length"]
        if not length.isdigit() or len(length) > LENGTH_DIGITS:
            return _ambiguous("Content-Length is not a number that we read.")
    return None


def size_error(exchange: Exchange, url_bytes: int, *, exact: bool, limits: Server) -> BadRequest | None:
    """What of a complete head is too large; `exact` = its bytes must be added up."""
    headers = exchange.headers
    if exact:
        size = sum(len(name) + len(value) + 4 for name, value in headers.items())
        if size + url_bytes > limits.header_bytes:
            return header_too_large(limits)
    if int(headers.get(b"content-length", b"0")) > limits.body_bytes:
        return body_too_large(limits)
    return None


def header_too_large(limits: Server) -> BadRequest:
    """More header than is read."""
    return BadRequest(
        f"The header has more than {limits.header_bytes} bytes or {limits.header_count} lines.",
        hint="See server.header_bytes and server.header_count.",
        code="header_too_large",
        status=431,
    )


def body_too_large(limits: Server) -> BadRequest:
    """More body than is read."""
    return BadRequest(
        f"The body is larger than {limits.body_bytes} bytes.",
        hint="See server.body_bytes.",
        code="body_too_large",
        status=413,
    )


def is_padded(body_bytes: int, wire_bytes: int) -> bool:
    """Whether a chunked body is mostly framing: it costs the reader and carries nothing."""
    return wire_bytes > CHUNK_OVERHEAD * body_bytes + CHUNK_OVERHEAD_FREE


def padded() -> BadRequest:
    """The refusal of such a body."""
    return BadRequest("The body's chunks hold next to nothing.", code="chunk_overhead")


def _ambiguous(message: str) -> BadRequest:
    return BadRequest(message, code="ambiguous_length")
