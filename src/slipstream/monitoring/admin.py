"""One request to a live server's admin routes, for programs and commands on the same machine."""

import asyncio
from typing import TypeVar

import msgspec
from msgspec import Struct

from slipstream.config.live import LiveServer
from slipstream.core.errors import BadRequest, SlipstreamError, Unavailable
from slipstream.net.client import ClientOptions, HttpClient

ANSWER_BYTES = 16 * 1024 * 1024
ANSWER_SECONDS = 30.0
T = TypeVar("T")


class _Error(Struct, frozen=True):
    message: str = ""
    """Its hint included."""
    code: str = ""


class _Refusal(Struct, frozen=True):
    error: _Error = _Error()


async def request(
    server: LiveServer, method: str, path: str, body: object = None, *, seconds: float = ANSWER_SECONDS
) -> bytes:
    """The body of the answer. `path` follows `/_slipstream/`; `body` goes as JSON.

    Raises `BadRequest` in the server's words where it refuses, `Unavailable` where it does not answer.
    """
    client = HttpClient(server.url, ClientOptions(connections=1))
    headers = [(b"authorization", b"Bearer " + server.token.encode())]
    if body is not None:
        headers.append((b"content-type", b"application/json"))
    sent = b"" if body is None else msgspec.json.encode(body)
    try:
        async with asyncio.timeout(seconds):
            response = await client.request(method, f"/_slipstream/{path}", headers, sent)
            try:
                said = await response.read(ANSWER_BYTES)
            finally:
                response.close()
    except TimeoutError:
        raise Unavailable(f"The server at {server.url} does not answer.") from None
    finally:
        await client.aclose()
    if response.status != 200:
        raise _refusal(server, response.status, said)
    return said


def understood(said: bytes, kind: type[T]) -> T:
    """An answer, typed. Raises `SlipstreamError` where the server is of another version."""
    try:
        return msgspec.json.decode(said, type=kind)
    except msgspec.MsgspecError as error:
        raise SlipstreamError(
            "The server answers in a way that is not known here.",
            hint="Use the same version of Slipstream on both sides.",
        ) from error


def _refusal(server: LiveServer, status: int, said: bytes) -> SlipstreamError:
    try:
        error = msgspec.json.decode(said, type=_Refusal).error
    except msgspec.MsgspecError:
        error = _Error()
    message = error.message or f"The server at {server.url} answered {status}."
    if 400 <= status < 500:
        return BadRequest(message, code=error.code, status=status)
    return SlipstreamError(message, code=error.code, status=status)
