"""A request as it came over the wire: its top-level fields, raw, and the few that we read.

The body is decoded one level deep; `messages` and all else stay byte-exact (DESIGN §3).
It does not know HTTP.
"""

import re
from collections.abc import Iterable
from enum import Enum
from typing import NoReturn, TypeVar

import msgspec

from slipstream.core.errors import BadRequest
from slipstream.core.wording import in_words


class Route(Enum):
    """What is asked for; the value is the path below `/v1/`."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a Python call for each look-up


class ChatRequest:
    """One request to a model. Frozen but for `body`, which follows the fields when one is replaced.

    Attributes:
        route: what is asked for.
        fields: every top-level field, as raw JSON bytes.
        body: the whole JSON object, as it came or re-joined.
        model: the model asked for; empty = the default.
        stream: whether the caller wants server-sent events.
        include_usage: whether the caller asked for the usage event of a stream.
        max_tokens: the caller's bound on the answer, None = none.
        user: the caller's own end-user id.
    """

    __slots__ = ("body", "fields", "include_usage", "max_tokens", "model", "route", "stream", "user")

    def __init__(self, route: Route, fields: dict[str, msgspec.Raw], body: bytes) -> None:
        self.route = route
        self.fields = fields
        self.body = body
        self.model = (_read(fields, "model", _STRING) if "model" in fields else None) or ""
        self.stream = (_read(fields, "stream", _FLAG) if "stream" in fields else None) or False
        self.user = (_read(fields, "user", _STRING) if "user" in fields else None) or ""
        self.max_tokens = _read(fields, "max_tokens", _COUNT) if "max_tokens" in fields else None
        if "max_completion_tokens" in fields:
            self.max_tokens = _read(fields, "max_completion_tokens", _COUNT)
        options = _read(fields, "stream_options", _OPTIONS) if "stream_options" in fields else None
        self.include_usage = options is not None and bool(options.include_usage)

    def adding(self, name: str, raw: bytes) -> "ChatRequest":
        """The same request with one field more, spliced in front: the rest stays byte-exact."""
        assert name not in self.fields
        after = self.body.index(b"{") + 1
        separator = b"," if self.fields else b""
        copy = ChatRequest.__new__(ChatRequest)
        for slot in ChatRequest.__slots__:
            setattr(copy, slot, getattr(self, slot))
        copy.fields = {name: msgspec.Raw(raw), **self.fields}
        copy.body = b'{"%b":%b%b%b' % (name.encode(), raw, separator, self.body[after:])
        return copy

    def replacing(self, changes: dict[str, bytes | None]) -> "ChatRequest":
        """The same request with some fields set to other raw JSON, or left out (None)."""
        fields = dict(self.fields)
        for name, raw in changes.items():
            if raw is None:
                fields.pop(name, None)
            else:
                fields[name] = msgspec.Raw(raw)
        return ChatRequest(self.route, fields, join(fields))


T = TypeVar("T")


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str | None)
_FLAG = msgspec.json.Decoder(bool | None)
_COUNT = msgspec.json.Decoder(int | None)
_OPTIONS = msgspec.json.Decoder(_StreamOptions | None)
REQUIRED = {Route.CHAT: "messages", Route.COMPLETIONS: "prompt", Route.EMBEDDINGS: "input"}
_KEY = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*')
_NEXT = re.compile(rb"[ \t\r\n]*([,}])")

FIELDS_MAX = 1000
"""Top-level fields of a request; no dialect has fifty. A million of them cost half a second to decode."""

NAME_MAX = 256
"""Characters of a top-level field's name."""

SLACK_BYTES = 64 * 1024
"""Bytes of a body that belong to no field: white space around names and values, escapes in names."""

_LARGE_BYTES = 16 * 1024
"""A longer body is counted while it is decoded; shorter ones hold 3,000 fields at most, which cost 2 ms."""


def parse(route: Route, body: bytes) -> ChatRequest:
    """Read a request body. Raises `BadRequest` that names the field for anything malformed.

    Refused: what is not one JSON object, duplicate fields, more than `FIELDS_MAX` of them, names beyond
    `NAME_MAX`, text that is not UTF-8, nesting beyond what a decoder follows, and wrong types in the
    fields that are read here.
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(
                f"The request body is not valid UTF-8 at byte {error.start}.", code="invalid_utf8"
            ) from None
    try:
        fields = _decode_counting(body) if len(body) > _LARGE_BYTES else _OBJECT.decode(body)
    except msgspec.ValidationError:
        raise BadRequest("The request body must be a JSON object.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"The request body is not valid JSON: {in_words(error)}.", code="invalid_json"
        ) from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.", code="too_deep") from None
    names = "".join(fields)
    if len(fields) > FIELDS_MAX or (len(names) > NAME_MAX and max(map(len, fields)) > NAME_MAX):
        _refuse_bulk(fields)
    slack = _slack(body, fields, names)
    if slack:
        _refuse_slack(slack)
        _refuse_duplicates(body, fields)
    required = REQUIRED[route]
    if required not in fields:
        raise BadRequest(f"The field `{required}` is missing.", param=required, code="missing_field")
    if route is Route.CHAT and not bytes(fields["messages"]).startswith(b"["):
        raise BadRequest("`messages` must be an array.", param="messages", code="wrong_type")
    return ChatRequest(route, fields, body)


def join(fields: dict[str, msgspec.Raw]) -> bytes:
    """The fields as one compact JSON object."""
    return msgspec.json.encode(fields)


def _read(fields: dict[str, msgspec.Raw], name: str, decoder: msgspec.json.Decoder[T]) -> T | None:
    try:
        return decoder.decode(fields[name])
    except msgspec.ValidationError as error:
        raise BadRequest(f"`{name}`: {in_words(error)}.", param=name, code="wrong_type") from None
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"`{name}` is not valid JSON: {in_words(error)}.", param=name, code="invalid_json"
        ) from None


class _Name(str):
    """A field's name on its way through `_decode_counting`."""

    __slots__ = ()


def _decode_counting(body: bytes) -> dict[str, msgspec.Raw]:
    """The top-level fields; gives up at the first that is one too many, and reads no further."""
    seen = 0

    def take(_: type, name: str) -> _Name:
        nonlocal seen
        seen += 1
        if seen > FIELDS_MAX or len(name) > NAME_MAX:
            _refuse_bulk((name,))
        return _Name(name)

    fields = msgspec.json.decode(body, type=dict[_Name, msgspec.Raw], dec_hook=take)
    return {str(name): raw for name, raw in fields.items()}


def _refuse_bulk(names: Iterable[str]) -> NoReturn:
    if max(map(len, names)) > NAME_MAX:
        raise BadRequest(
            f"A field's name has more than {NAME_MAX} characters.",
            code="field_name_too_long",
            hint="Long text belongs into a field's value.",
        )
    raise BadRequest(
        f"The request has more than {FIELDS_MAX} top-level fields.",
        code="too_many_fields",
    )


def _slack(body: bytes, fields: dict[str, msgspec.Raw], names: str) -> int:
    """The bytes beyond the shortest way to write `fields`. Zero: no white space, escaped name or duplicate.

    Every one of those only makes the body longer than the sum, so equality excludes them all.
    """
    length = (1 if fields else 2) + 4 * len(fields)
    length += len(names) if names.isascii() else len(names.encode())
    return len(body) - length - sum([len(memoryview(raw)) for raw in fields.values()])


def _refuse_slack(slack: int) -> None:
    """Walking megabytes of white space takes longer than decoding them did."""
    if slack > SLACK_BYTES:
        raise BadRequest(
            f"{slack} bytes of the body belong to no field: white space, or fields that appear twice.",
            code="too_much_space",
            hint=f"At most {SLACK_BYTES // 1024} KiB may stand between the top-level fields.",
        )


def _refuse_duplicates(body: bytes, fields: dict[str, msgspec.Raw]) -> None:
    """Walk the top level once. The body is known to be a valid object; last of two equal names won."""
    seen: set[str] = set()
    position = body.index(b"{") + 1
    while (key := _KEY.match(body, position)) is not None:
        name: str = msgspec.json.decode(key[1], type=str)
        raw = bytes(fields[name])
        if name in seen or not body.startswith(raw, key.end()):
            raise BadRequest(f"The field `{name}` appears twice.", param=name, code="duplicate_field")
        seen.add(name)
        follow = _NEXT.match(body, key.end() + len(raw))
        if follow is None:  # a number that another value of the same name merely starts with
            raise BadRequest(f"The field `{name}` appears twice.", param=name, code="duplicate_field")
        position = follow.end()
