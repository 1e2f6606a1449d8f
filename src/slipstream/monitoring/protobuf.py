"""Protocol Buffers, the writing half: messages as plain mappings, written after a table of their fields.

What two exporters need of the wire format (protobuf.dev/programming-guides/encoding): varints, doubles,
strings, messages, packed numbers. Reads nothing.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, cast

Kind = Literal["uint64", "sint64", "fixed64", "sfixed64", "double", "bool", "enum", "string", "bytes"]
Schema = Mapping[str, "Field"]
"""Name of a field to its number and kind; a message is the schema of its own fields."""
Message = Mapping[str, object]

_DOUBLE = struct.Struct("<d")
_FIXED = struct.Struct("<Q")
_SIGNED = struct.Struct("<q")


class Field:
    """One field of a message.

    Args:
        number: on the wire.
        kind: how its value is written; a schema for a message.
        repeated: the value is a sequence; numbers are packed.
    """

    __slots__ = ("is_delimited", "kind", "repeated", "tag", "write")

    def __init__(self, number: int, kind: "Kind | Schema", *, repeated: bool = False) -> None:
        self.kind = kind
        self.repeated = repeated
        is_number = isinstance(kind, str) and kind not in _TEXTS
        self.is_delimited = repeated or not is_number
        wire = 2 if self.is_delimited else _WIRES.get(str(kind), 0)
        self.tag = varint(number << 3 | wire)
        self.write = _writer(kind, packed=repeated and is_number)


def encode(message: Message, schema: Schema) -> bytes:
    """A message as bytes. A field that the schema lacks is a mistake of ours and raises KeyError."""
    written = bytearray()
    for name, value in message.items():
        field = schema[name]
        if not field.is_delimited:
            written += field.tag
            written += field.write(value)
            continue
        many = field.repeated and (not isinstance(field.kind, str) or field.kind in _TEXTS)
        for each in cast("Iterable[object]", value) if many else (value,):
            content = field.write(each)
            written += field.tag
            written += varint(len(content))
            written += content
    return bytes(written)


def delimited(message: bytes) -> bytes:
    """A message with its length before it, as streams of messages are written."""
    return varint(len(message)) + message


_MASK = 0xFFFF_FFFF_FFFF_FFFF
_ONE_BYTE = [bytes((number,)) for number in range(128)]


def varint(value: int) -> bytes:
    """A number of 64 bits, seven at a time, the low ones first."""
    if 0 <= value < 128:
        return _ONE_BYTE[value]
    value &= _MASK
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _zigzag(value: int) -> bytes:
    return varint((value << 1) ^ (value >> 63))


def _text(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace")


_TEXTS = frozenset({"string", "bytes"})
_WRITERS: dict[str, Callable[..., bytes]] = {
    "uint64": varint,
    "enum": varint,
    "bool": varint,
    "sint64": _zigzag,
    "fixed64": lambda value: _FIXED.pack(value & _MASK),
    "sfixed64": _SIGNED.pack,
    "double": _DOUBLE.pack,
    "string": _text,
    "bytes": _text,
}
_WIRES = {"fixed64": 1, "sfixed64": 1, "double": 1}


def _writer(kind: "Kind | Schema", *, packed: bool) -> Callable[..., bytes]:
    """What writes the content of a field: one value, or all of them where they are packed."""
    if not isinstance(kind, str):
        return lambda value: encode(value, kind)
    write = _WRITERS[kind]
    return (lambda values: b"".join(map(write, values))) if packed else write


def as_json(message: Message, schema: Schema) -> dict[str, object]:
    """The same message as OTLP's JSON: names in camel case, 64-bit numbers as texts, bytes in hexadecimal."""
    return {_camel(name): _json_of(schema[name], value) for name, value in message.items()}


def _json_of(field: Field, value: object) -> object:
    if field.repeated:
        assert isinstance(value, Iterable)
        return [_json_one(field.kind, each) for each in value]
    return _json_one(field.kind, value)


def _json_one(kind: "Kind | Schema", value: object) -> object:
    if not isinstance(kind, str):
        assert isinstance(value, Mapping)
        return as_json(value, kind)
    if kind in {"uint64", "fixed64", "sfixed64"}:
        return str(value)
    return value.hex() if isinstance(value, bytes) else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
