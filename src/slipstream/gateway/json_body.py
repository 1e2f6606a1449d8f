"""The body of an admin request as a typed value. JSON alone: a form of another site cannot send that
(DESIGN §9.5)."""

from typing import TypeVar

import msgspec
from starlette.requests import Request

from slipstream.core.errors import BadRequest
from slipstream.gateway.guard import require_json

BODY_BYTES_MAX = 4096
T = TypeVar("T")


async def json_body(request: Request, kind: type[T], how: str, *, most: int = BODY_BYTES_MAX) -> T:
    """Read it, `most` bytes at most; `how` is the hint: what a right body looks like.

    Raises `BadRequest` for another content type (415), a longer body (413), or what is no such value.
    """
    require_json({b"content-type": request.headers.get("content-type", "").encode()})
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise BadRequest(f"The body is longer than {most:,} bytes.", status=413, hint=how)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body cannot be understood: {error}.", hint=how) from None
