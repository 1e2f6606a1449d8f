"""A decoder's words become a caller's."""

import msgspec
import pytest

from slipstream.core.wording import in_words


class Body(msgspec.Struct):
    n: int | None = None
    ratio: float | None = None
    is_on: bool | None = None
    words: list[str] | str | None = None
    role: str = ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"n": "x"}', "Expected a whole number, got a string - at `$.n`"),
        ('{"ratio": []}', "Expected a number, got an array - at `$.ratio`"),
        ('{"is_on": "yes"}', "Expected true or false, got a string - at `$.is_on`"),
        ('{"words": {}}', "Expected a string or an array, got an object - at `$.words`"),
        ('{"role": null}', "Expected a string, got null - at `$.role`"),
        ("[]", "Expected an object, got an array"),
        ('{"n": }', "invalid character (byte 6)"),
        ("{", "Input data was truncated"),
    ],
)
def test_types_are_those_of_json(body: str, words: str) -> None:
    """No name of Python's is left, and malformed JSON is called so once."""
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(body, type=Body)
    assert in_words(caught.value) == words
