"""What a check says: a cause with what speaks for and against it, or why it is ruled out."""

from msgspec import Struct

SHARE_MIN = 0.1
"""A cause accounts for at least this share of the slow requests' time; below it is noise or a detail."""

SHOWN = 5
"""Requests that stand for a point of evidence."""


class Point(Struct, frozen=True):
    """One piece of evidence, and requests (ids) in which it can be seen."""

    text: str
    requests: tuple[str, ...] = ()


class Fix(Struct, frozen=True):
    """One setting to change. `setting` is empty where it is no setting but code or another's server."""

    setting: str
    before: str
    after: str
    text: str
    is_live: bool = True
    """Whether a running server takes it without a restart."""


class Finding(Struct, frozen=True):
    """A cause.

    Attributes:
        check: which check found it; the class of its advice in the ledger.
        subject: what it is about: an upstream, a line of code.
        cause: one sentence.
        share: of the time of the slow requests (or of the failures), what it accounts for; 0 to 1.
        fixes: what would help, the best guess first.
    """

    check: str
    subject: str
    cause: str
    share: float
    evidence: tuple[Point, ...]
    against: tuple[Point, ...] = ()
    fixes: tuple[Fix, ...] = ()


class RuledOut(Struct, frozen=True):
    """A check that found nothing, and why."""

    check: str
    why: str
