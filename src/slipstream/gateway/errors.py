"""Errors in OpenAI's shape, with our hint beside it. The one place where an error becomes bytes."""

import msgspec

from slipstream.core.errors import SlipstreamError


class _Body(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str
    hint: str


class _Wrapped(msgspec.Struct):
    error: _Body


def error_body(error: SlipstreamError) -> bytes:
    """The JSON that a client gets. `message` holds the hint too: most clients show nothing else."""
    body = _Body(str(error), error.kind, error.param, error.code, error.hint)
    return msgspec.json.encode(_Wrapped(body))


def error_event(error: SlipstreamError) -> bytes:
    """The same as the last event of a broken stream."""
    return b"data: " + error_body(error) + b"\n\n"


def error_headers(error: SlipstreamError) -> list[tuple[bytes, bytes]]:
    """Headers that belong to an error."""
    headers = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_seconds))))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
