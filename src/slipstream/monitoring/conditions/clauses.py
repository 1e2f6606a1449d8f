"""What may follow a condition: `for`, `keep`, `clear when`, `min count`, `no data`."""

from collections.abc import Callable
from typing import get_args

from msgspec import Struct

from slipstream.core.alerts import NoData
from slipstream.core.nearest import nearest
from slipstream.monitoring.conditions.stream import Stream
from slipstream.monitoring.conditions.syntax import Truth

MIN_COUNT_MAX = 1_000_000
_MODES: tuple[NoData, ...] = get_args(NoData)


class Clauses(Struct, frozen=True):
    """The clauses of one condition; each may stand once, in any order, with or without commas."""

    for_seconds: int = 0
    keep_seconds: int = 0
    clear_when: Truth | None = None
    min_count: int | None = None
    no_data: NoData = "ok"


def read(stream: Stream, truth: Callable[[], Truth]) -> Clauses:
    """Read the clauses that stand here; `truth` reads a question."""
    given: dict[str, object] = {}
    while True:
        comma = stream.take_if(",")
        token = stream.next
        name, value = _clause(stream, truth)
        if not name:
            if comma:
                raise stream.mistake("After this comma a clause is missing.", token)
            return Clauses(**given)  # type: ignore[arg-type]
        if name in given:
            raise stream.mistake(f"`{token.text}` stands here for the second time.", token)
        given[name] = value


def _clause(stream: Stream, truth: Callable[[], Truth]) -> tuple[str, object]:
    if stream.take_if("for"):
        return "for_seconds", stream.duration()
    if stream.take_if("keep"):
        return "keep_seconds", stream.duration()
    if stream.take_if("clear"):
        stream.expect("when")
        return "clear_when", truth()
    if stream.take_if("min"):
        stream.expect("count")
        return "min_count", _count(stream)
    if stream.take_if("no"):
        stream.expect("data")
        return "no_data", _mode(stream)
    return "", None


def _count(stream: Stream) -> int:
    token = stream.take()
    if not token.text.isdecimal() or int(token.text) > MIN_COUNT_MAX:
        raise stream.mistake(f"A count is a whole number up to {MIN_COUNT_MAX}.", token)
    return int(token.text)


def _mode(stream: Stream) -> NoData:
    token = stream.take()
    for mode in _MODES:
        if token.text == mode:
            return mode
    raise stream.mistake(
        "Here it must say what no data means: `ok`, `keep` or `alert`.",
        token,
        hint=nearest(token.text, _MODES),
    )
