"""Text into tokens: numbers, names, strings and signs, each with where it stands."""

import re
from typing import Literal

from msgspec import Struct

from slipstream.monitoring.conditions.mistakes import ConditionError

LENGTH_MAX = 1000
"""Most characters of a condition."""

Kind = Literal["number", "name", "string", "sign", "end"]


class Token(Struct, frozen=True):
    """One token; `start` and `end` are characters of the text."""

    kind: Kind
    text: str
    start: int
    end: int


_BLANK = re.compile(r"[ \t\r\n]*")
_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("number", re.compile(r"(?:\d{1,18}(?:\.\d{1,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,3}(?![\w.]))?", re.ASCII)),
    ("name", re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)),
    ("string", re.compile(r'"(?:[^"\\\x00-\x1f\x7f-\x9f\u2028\u2029]|\\["\\])*"')),
    ("sign", re.compile(r"<=|>=|==|!=|&&|\|\||[-<>+*/(){},%=!:;]")),
)
_MEANT = {"&&": "and", "||": "or", "!": "not", ";": ",", ":": "="}


def tokens(text: str) -> list[Token]:
    """The tokens of a condition, an `end` last. Raises `ConditionError`."""
    if len(text) > LENGTH_MAX:
        raise ConditionError(
            f"A condition has at most {LENGTH_MAX} characters; this one has {len(text)}.", text, LENGTH_MAX
        )
    found: list[Token] = []
    at = _after_blank(text, 0)
    while at < len(text):
        token = _token(text, at)
        found.append(token)
        at = _after_blank(text, token.end)
    found.append(Token("end", "", len(text), len(text)))
    return found


def unquoted(token: Token) -> str:
    """What a string token says."""
    return re.sub(r"\\(.)", r"\1", token.text[1:-1])


def quoted(text: str) -> str:
    """A text as a string token."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _token(text: str, at: int) -> Token:
    for kind, pattern in _PATTERNS:
        match = pattern.match(text, at)
        if match is None:
            continue
        if match[0] in _MEANT:
            raise ConditionError(
                f"`{match[0]}` is not understood.", text, at, hint=f"Write `{_MEANT[match[0]]}`."
            )
        return Token(kind, match[0], at, match.end())
    if text[at] == '"':
        raise ConditionError(
            "This string does not end, or holds what cannot be shown.", text, at, hint='Close it with `"`.'
        )
    shown = text[at] if text[at].isprintable() else f"U+{ord(text[at]):04X}"
    raise ConditionError(f"The character {shown!r} has no meaning here.", text, at)


def _after_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()
