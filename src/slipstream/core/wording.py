"""What a decoder says of a wrong value, in words that a caller knows: JSON's types, not Python's."""

import re

_TYPES = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_NAMED = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_MALFORMED = "JSON is malformed: "


def in_words(error: Exception) -> str:
    """The message of a msgspec error without its full stop: "Expected a number, got a string"."""
    text = str(error).removeprefix(_MALFORMED)
    return _NAMED.sub(lambda found: _spoken(found[0], found[1].split(" | ")), text)


def _spoken(whole: str, names: list[str]) -> str:
    if any(name not in _TYPES for name in names):
        return whole
    kinds = [_TYPES[name] for name in names if name != "null" or len(names) == 1]
    return " or ".join(kinds)
