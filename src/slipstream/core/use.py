"""The port by which parts announce how they do: a row of utilisation, saturation and errors each.

Method: Brendan Gregg's USE. A part announces itself once and is asked when somebody looks; it does not
know who asks. The doctor and the resource page read the rows.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from msgspec import Struct

from slipstream.core.errors import SlipstreamError

PARTS_MAX = 256
"""Most parts that may be announced at once; one more is a leak of ours."""


class UseRow(Struct, frozen=True):
    """How one resource does. What is not known is None, never 0.

    Attributes:
        part: who it is: `pool database`, `cache responses`, `event loop worker 0`.
        utilisation: how much of it is in use, 0..1.
        saturation: how much waits for it, in `saturation_unit`.
        errors: how often it failed since it began.
        limit: what it may take at most, as people are told.
    """

    part: str
    utilisation: float | None = None
    saturation: float | None = None
    saturation_unit: str = ""
    errors: int | None = None
    limit: str = ""


@runtime_checkable
class Announcing(Protocol):
    """A part that has a row."""

    def use(self) -> UseRow:
        """How it does now."""
        ...


def queue_row(part: str, waiting: int, most: int, what: str, *, errors: int | None = None) -> UseRow:
    """The row of a bounded queue: how full it is; that something waits in it is what it is for."""
    return UseRow(part, waiting / most if most else None, None, "", errors, f"{waiting:,} of {most:,} {what}")


class UseTable:
    """The parts that have announced themselves."""

    def __init__(self) -> None:
        self._parts: dict[str, Callable[[], UseRow]] = {}

    def announce(self, part: str, row: Callable[[], UseRow]) -> None:
        """Take in a part under its name; one of the same name is replaced. `row` must be quick."""
        if part not in self._parts and len(self._parts) >= PARTS_MAX:
            raise SlipstreamError(f"More than {PARTS_MAX} parts are announced.", code="too_many_parts")
        self._parts[part] = row

    def withdraw(self, part: str) -> None:
        """Forget a part that has ended; one that is not there is no error."""
        self._parts.pop(part, None)

    def rows(self) -> list[UseRow]:
        """How every part does, in the order in which they came."""
        return [row() for row in list(self._parts.values())]


USE = UseTable()
"""The parts of this process."""
