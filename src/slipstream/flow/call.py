"""What a caller hands in: a route, a body and a secret; nothing of it has been looked at yet."""

import functools
import hashlib

import msgspec
from msgspec import Struct

from slipstream.core.chat import REQUIRED, ChatRequest, Route, parse
from slipstream.core.errors import BadRequest
from slipstream.core.record import Record

HASH_BYTES = 8
"""64 bits tell prompts apart in a store of a billion with less than 3 % chance of one collision."""

KEPT_BYTES_MAX = 1024
"""Longer parameters (tools, a response format) are hashed each time, so that what is kept stays small."""

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
    fields = request.fields
    record.prompt_hash = _digest(salt, fields[REQUIRED[request.route]])
    parameters = {name: fields[name] for name in sorted(fields.keys() - _NOT_PARAMETERS)}
    if parameters:
        encoded = msgspec.json.encode(parameters)
        is_short = len(encoded) <= KEPT_BYTES_MAX
        record.parameters_hash = _digest_kept(salt, encoded) if is_short else _digest(salt, encoded)
    return request


def _digest(salt: bytes, data: bytes | msgspec.Raw) -> str:
    digest = _keyed(salt).copy()
    digest.update(data)
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def _digest_kept(salt: bytes, data: bytes) -> str:
    """The same for what comes again and again: an application asks with few sets of parameters."""
    return _digest(salt, data)


@functools.lru_cache(maxsize=4)
def _keyed(salt: bytes) -> "hashlib.blake2b":
    """The key takes one of the rounds; it is worked in once."""
    return hashlib.blake2b(digest_size=HASH_BYTES, key=salt)
