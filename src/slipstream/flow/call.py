"""What a caller hands in: a route, a body and a secret; nothing of it has been looked at yet."""

import hashlib

from msgspec import Struct

from slipstream.core.chat import ChatRequest, Route, parse
from slipstream.core.errors import BadRequest
from slipstream.core.record import Record

HASH_BYTES = 8
"""64 bits tell prompts apart in a store of a billion with less than 3 % chance of one collision."""

MODEL_CHARACTERS_MAX = 256

_NOT_PARAMETERS = frozenset(
    {"model", "messages", "prompt", "input", "stream", "stream_options", "user", "metadata"}
)


class Call(Struct, frozen=True):
    """One call of the API, from the wire or from a script."""

    route: Route
    body: bytes
    secret: str = ""


def read(call: Call, record: Record, salt: bytes) -> ChatRequest:
    """Parse the body and take down what the record keeps of it. Raises `BadRequest`."""
    record.request_bytes = len(call.body)
    request = parse(call.route, call.body)
    if len(request.model) > MODEL_CHARACTERS_MAX:  # it is recorded and shown, and must not fill either
        raise BadRequest("`model` is longer than any name.", param="model", code="wrong_type")
    record.model_asked = request.model
    record.stream = request.stream
    record.prompt_hash = _digest(
        salt, *(request.fields.get(name) for name in ("messages", "prompt", "input"))
    )
    parameters = sorted(name for name in request.fields if name not in _NOT_PARAMETERS)
    if parameters:
        record.parameters_hash = _digest(
            salt, *(v for n in parameters for v in (n.encode(), request.fields[n]))
        )
    return request


def _digest(salt: bytes, *parts: object) -> str:
    hashed = hashlib.blake2b(digest_size=HASH_BYTES, key=salt)
    for part in parts:
        if part is not None:
            view = memoryview(part)  # type: ignore[arg-type]
            hashed.update(len(view).to_bytes(8, "little"))
            hashed.update(view)
    return hashed.hexdigest()
