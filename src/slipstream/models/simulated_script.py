"""What a simulated answer is told to do wrong: the script of one request, as text and as data.

    script = item *("," item)        item = name ["=" value] ["@" tokens]

`RULES` is the whole vocabulary. It does not know how a script is played.
"""

import re
from typing import Literal
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from slipstream.core.errors import BadRequest

SCRIPT_BYTES_MAX = 2048
"""Longest script."""

Kind = Literal["none", "number", "whole", "text", "raw", "newline", "status"]
Place = Literal["never", "optional", "required"]


class Rule(Struct, frozen=True):
    """What one item may look like.

    Attributes:
        meaning: one line for the documentation.
        kind: form of the value; `text` may stand in a header, `raw` is any bytes, both percent-encoded.
        place: whether `@N` (after N tokens) is allowed.
        highest: largest number.
        optional: the value may be left out.
        repeats: may stand in a script more than once.
        wire: needs a connection; refused by the in-memory model.
    """

    meaning: str
    kind: Kind = "none"
    place: Place = "never"
    highest: float = 0
    optional: bool = False
    repeats: bool = False
    wire: bool = False


RULES: dict[str, Rule] = {
    "ttft": Rule("median time to first token, ms", "number", highest=3_600_000),
    "itl": Rule("median time between tokens, ms", "number", highest=3_600_000),
    "tokens": Rule("tokens of the answer; `max_tokens` still bounds it", "whole", highest=131_072),
    "chunk": Rule("tokens in one event", "whole", highest=4096),
    "early_head": Rule("status and headers at once, before the first token"),
    "error": Rule(
        "this status at once (500 if not given); with @N an error event after N tokens",
        "status",
        "optional",
        optional=True,
    ),
    "retry_after": Rule("`Retry-After` of the error, any text", "text"),
    "hang": Rule("silence: before the head, or with @N after N tokens", place="optional"),
    "pause": Rule(
        "this many seconds of silence after N tokens (0)", "number", "optional", 86_400, repeats=True
    ),
    "cut": Rule("connection reset: before the head, or after N tokens", place="optional"),
    "close": Rule("connection closed without an end: before the head, or after N tokens", place="optional"),
    "raw": Rule("these bytes as they are, after N tokens", "raw", "required", repeats=True),
    "malformed": Rule("an event with half a JSON object, after N tokens", place="required"),
    "long_line": Rule(
        "one event line of this many bytes, after N tokens", "whole", "required", 64 * 1024 * 1024
    ),
    "no_finish": Rule("no `finish_reason`"),
    "no_usage": Rule("no `usage`, though asked for"),
    "usage_in_choice": Rule("`usage` in the event with the finish reason"),
    "no_done": Rule("the stream ends without `[DONE]`"),
    "two_done": Rule("the stream ends with `[DONE]` twice"),
    "newline": Rule("line ends of the events: lf, crlf or cr", "newline"),
    "comments": Rule("a comment before each event"),
    "unicode": Rule("words of two to four bytes a letter"),
    "content_type": Rule("this content type instead of the right one", "text"),
    "redirect": Rule("307 to this address", "text", wire=True),
    "slow_header": Rule("the head byte by byte over this many seconds", "number", highest=86_400, wire=True),
    "drip": Rule("the whole answer at this many bytes a second", "whole", highest=1e9, wire=True),
    "split": Rule("each piece of this many bytes in a write of its own", "whole", highest=1e9, wire=True),
    "header_flood": Rule("this many more headers", "whole", highest=100_000, wire=True),
    "pad": Rule("an unstreamed body this many bytes longer", "whole", highest=2**40, wire=True),
    "gzip_bomb": Rule(
        "an unstreamed body of zeros of this size, compressed", "whole", highest=2**36, wire=True
    ),
}


class Item(Struct, frozen=True):
    """One item of a script. `at` = after how many tokens, None = before the head."""

    name: str
    number: float = 0
    text: bytes = b""
    at: int | None = None


class Script(Struct, frozen=True):
    """All items of one request, in order."""

    items: tuple[Item, ...] = ()

    def find(self, name: str) -> Item | None:
        """The first item of this name."""
        return next((item for item in self.items if item.name == name), None)

    def has(self, name: str) -> bool:
        """Whether an item of this name is there."""
        return any(item.name == name for item in self.items)

    def number(self, name: str, default: float) -> float:
        """The value of a numeric item."""
        item = self.find(name)
        return default if item is None else item.number

    def before_head(self, name: str) -> Item | None:
        """The item of this name that stands without a place."""
        return next((item for item in self.items if item.name == name and item.at is None), None)

    def marks(self) -> dict[int, tuple[Item, ...]]:
        """What happens after how many tokens."""
        marks: dict[int, tuple[Item, ...]] = {}
        for item in self.items:
            if item.at is not None:
                marks[item.at] = (*marks.get(item.at, ()), item)
        return marks


NOTHING = Script()


def parse_script(text: str) -> Script:
    """Read a script. Raises `BadRequest` (param `simulate`) that says which item is wrong and why.

    >>> parse_script("pause=0.5@3,no_done").items[0].at
    3
    """
    if len(text) > SCRIPT_BYTES_MAX:
        raise _wrong(text[:32] + "...", f"a script has at most {SCRIPT_BYTES_MAX} bytes")
    items: list[Item] = []
    for part in text.split(","):
        if not part.strip():
            continue
        item = _parse_item(part.strip())
        if not RULES[item.name].repeats and any(item.name == other.name for other in items):
            raise _wrong(item.name, "it may stand only once")
        items.append(item)
    return Script(tuple(items)) if items else NOTHING


def wire_only(script: Script) -> Item | None:
    """The first item that needs a connection to be played on."""
    return next((item for item in script.items if RULES[item.name].wire), None)


def _parse_item(part: str) -> Item:
    name, has_value, value = part.partition("=")
    name, place = (name, "") if has_value else _split_place(name)
    rule = RULES.get(name)
    if rule is None:
        raise _wrong(part, "there is no such item; known are " + ", ".join(RULES))
    if has_value and rule.place != "never":
        value, place = _split_place(value)
    if place and rule.place == "never":
        raise _wrong(part, "it has no place in the stream")
    if not place and rule.place == "required":
        raise _wrong(part, "it needs a place, such as @3")
    if rule.kind == "none" and has_value:
        raise _wrong(part, "it takes no value")
    if rule.kind != "none" and not (value or rule.optional):
        raise _wrong(part, "it needs a value")
    at = int(place) if place else (0 if name == "pause" else None)
    number, raw = _value(rule, value, part)
    return Item(name, number, raw, at)


def _split_place(text: str) -> tuple[str, str]:
    value, separator, place = text.rpartition("@")
    if not separator:
        return text, ""
    if not (place.isascii() and place.isdigit() and len(place) < 10):
        raise _wrong(text, "after the @ stands a number of tokens")
    return value, place


def _value(rule: Rule, value: str, part: str) -> tuple[float, bytes]:
    if rule.kind in ("number", "whole"):
        return _number(rule, value, part), b""
    if rule.kind == "status":
        if value and not _STATUS.fullmatch(value):
            raise _wrong(part, "the status is a number from 400 to 599")
        return float(value or 500), b""
    if rule.kind == "newline" and value not in _NEWLINES:
        raise _wrong(part, "it is one of lf, crlf, cr")
    if rule.kind == "newline":
        return 0, _NEWLINES[value]
    raw = unquote_to_bytes(value)
    if rule.kind == "text" and not (raw.isascii() and raw.decode().isprintable()):
        raise _wrong(part, "a header holds printable ASCII only")
    return 0, raw


def _number(rule: Rule, value: str, part: str) -> float:
    try:
        number = float(int(value)) if rule.kind == "whole" else float(value)
    except ValueError:
        raise _wrong(part, "its value is a number") from None
    lowest = 1 if rule.kind == "whole" else 0
    if not lowest <= number <= rule.highest:  # NaN compares false
        raise _wrong(part, f"its value lies between {lowest} and {rule.highest:,.0f}")
    return number


def _wrong(part: str, why: str) -> BadRequest:
    return BadRequest(f"`simulate`: {part!r}: {why}.", param="simulate", code="bad_script")


_STATUS = re.compile("[45][0-9][0-9]", re.ASCII)
_NEWLINES = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
