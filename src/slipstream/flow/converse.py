"""A call told as text, for scripts and terminals: the same way, its events read instead of relayed."""

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence

import msgspec

from slipstream.core.chat import Route
from slipstream.core.completion import Completion, Delta, completion, delta
from slipstream.core.errors import BadRequest, SlipstreamError, UpstreamFailed
from slipstream.core.ports import Chunk, Head
from slipstream.core.record import open_record
from slipstream.flow.call import Call
from slipstream.flow.handle import Way, handle
from slipstream.flow.observe import UNREADABLE
from slipstream.net.sse import data_of

Message = Mapping[str, object]


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Error(msgspec.Struct):
    message: str = ""
    code: str | int | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: _Error | str | None = None


def chat_body(prompt: str | Sequence[Message], model: str = "", **options: object) -> bytes:
    """The body of a streamed chat call; a plain prompt is one message of the user's.

    `options` are fields of the API (`max_tokens`, `temperature` …); those that are None are left out.
    """
    if not isinstance(prompt, str | list | tuple):
        raise BadRequest(
            "A prompt is a text or a list of messages.",
            hint='Such as "Hello", or [{"role": "user", "content": "Hello"}].',
            param="prompt",
            code="wrong_type",
        )
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    fields = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    named = {"model": model or None, **options}
    try:
        return msgspec.json.encode(
            fields | {name: value for name, value in named.items() if value is not None}
        )
    except (TypeError, ValueError) as error:
        raise BadRequest(f"The prompt cannot be sent as JSON: {error}.", code="wrong_type") from None


async def converse(body: bytes, way: Way) -> AsyncGenerator[Delta | Completion, None]:
    """Yield the answer piece by piece, and at the end the whole of it as a `Completion`."""
    record = open_record(route=Route.CHAT.value)
    text: list[str] = []
    streamed, status, error_body, upstream_id = True, 200, b"", ""
    async with contextlib.aclosing(handle(Call(Route.CHAT, body), record, way)) as items:
        async for item in items:
            if isinstance(item, Head):
                streamed, status = item.streamed, item.status
                upstream_id = dict(item.headers).get(b"x-upstream-request-id", b"").decode("latin-1")
            elif not streamed or status >= 400:
                error_body += b"".join(item.events)
            else:
                for piece in _pieces(item):
                    text.append(piece)
                    yield piece
    if status >= 400 or not streamed:
        raise _refusal(status, error_body)
    whole = completion("".join(text), record)
    whole.upstream_request_id = upstream_id
    yield whole


def _pieces(chunk: Chunk) -> list[Delta]:
    pieces: list[Delta] = []
    for event in chunk.events:
        data = data_of(event)
        if not data or data == b"[DONE]":
            continue
        try:
            seen = msgspec.json.decode(data, type=_Event)
        except UNREADABLE as error:
            raise UpstreamFailed(f"The model sent an event that is not understood: {error}.") from None
        if seen.error is not None:
            said = _error(seen.error)
            raise UpstreamFailed(said.message or "The model's answer broke.", code=str(said.code or ""))
        pieces.extend(delta(c.delta.content, chunk.arrived_ns) for c in seen.choices if c.delta.content)
    return pieces


def _error(seen: _Error | str | None) -> _Error:
    return seen if isinstance(seen, _Error) else _Error(seen or "")


def _refusal(status: int, body: bytes) -> SlipstreamError:
    """The error in an unstreamed answer to a streamed call."""
    try:
        error = _error(msgspec.json.decode(body, type=_Event).error)
    except UNREADABLE:
        error = _Error(body[:200].decode(errors="replace"))
    kind = BadRequest if 400 <= status < 500 else UpstreamFailed
    return kind(
        error.message or f"The model answered {status}.",
        code=str(error.code or ""),
        status=status if status >= 400 else 502,
    )
