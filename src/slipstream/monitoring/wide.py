"""Windows that reach beyond what memory holds: their older part comes from the file, and is kept a minute.

Memory holds two hours, and of a server that was just started less. Where the file ends and memory begins
is one moment, so nothing is counted twice. Reading is slow; who calls `renew` from a thread spares the
event loop all but the first reading of a window.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from slipstream.core.readings import Labels, Point, Span
from slipstream.monitoring.points import cut_between
from slipstream.monitoring.tracks import FRAMES

RENEW_SECONDS = 60
"""How long what was read is good for."""
FORGET_SECONDS = 1800
"""When a window that nobody asks for is no longer read."""
SLACK_SECONDS = 600
"""Memory must hold on to what it tells for as long as what was read is used."""
QUESTIONS_MAX = 2048
"""Most windows whose older part is kept; of more the one that was read first goes."""
_HOUR = 3600.0
_HOUR_NS = 3600 * 1_000_000_000
_STEPS = ((7200.0, 10.0), (86_400.0, 60.0), (float("inf"), _HOUR))
"""How finely the file is read for a window of up to so many seconds."""
_ALWAYS = "memory_bytes"
"""A gauge that a server sets each second: the number of its looks tells for how long anything was watched."""

Past = Callable[[str, Labels, Span], Sequence[Point]]
Question = tuple[str, tuple[tuple[str, str], ...], float]
"""A metric, labels, a window in seconds."""


class Moment(Struct, frozen=True):
    """Where memory stands: its newest frame, that frame's wall clock, and that of every frame it holds."""

    frame: int
    wall_ns: int
    walls: Mapping[int, int]


class Older(Struct, frozen=True):
    """The older part of a window.

    Attributes:
        points: as they were stored.
        first: the frame from which on memory tells.
        watched_seconds: for how long a server looked, within this part.
        frame: when it was read.
    """

    points: Sequence[Point]
    first: int
    watched_seconds: float
    frame: int


class WideWindows:
    """Finds the older part of windows through `past`, which reads a file."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._read: dict[Question, Older] = {}
        self._asked: dict[Question, int] = {}

    def older(self, question: Question, now: Moment) -> Older:
        """What is older than memory; read now if it was never read, or nobody renewed it. May be slow."""
        found = self._read.get(question)
        self._asked[question] = now.frame
        if found is None or now.frame - found.frame > SLACK_SECONDS - RENEW_SECONDS:
            if len(self._read) >= QUESTIONS_MAX:
                gone = next(iter(self._read))
                self._read.pop(gone, None)
                self._asked.pop(gone, None)
            found = self._read[question] = self._find(question, now)
        return found

    def renew(self, now: Moment) -> None:
        """Read anew what is a minute old; forget what nobody asks for. For a thread."""
        for question, found in list(self._read.items()):
            if now.frame - self._asked.get(question, 0) > FORGET_SECONDS:
                self._read.pop(question, None)
                self._asked.pop(question, None)
            elif now.frame - found.frame >= RENEW_SECONDS:
                self._read[question] = self._find(question, now)

    def _find(self, question: Question, now: Moment) -> Older:
        name, labels, window_seconds = question
        walls = sorted(dict(now.walls).items())
        _, oldest_ns = walls[max(0, len(walls) - FRAMES + SLACK_SECONDS)]
        start_ns = now.wall_ns - int(window_seconds * 1e9)
        step = next(step for reach, step in _STEPS if window_seconds <= reach)
        cut_ns = max(cut_between(oldest_ns, now.wall_ns, step), start_ns)
        span = Span(start_ns, cut_ns, step)
        watched = sum(point.count for point in self._points(_ALWAYS, {}, span))
        first = next((frame for frame, wall_ns in walls if wall_ns > cut_ns), now.frame + 1)
        return Older(list(self._points(name, dict(labels), span)), first, watched, now.frame)

    def _points(self, name: str, labels: Labels, span: Span) -> Iterator[Point]:
        """The points of a range; where they are of whole hours, its first hour minute by minute."""
        start_ns = span.start_ns
        whole_ns = -(-start_ns // _HOUR_NS) * _HOUR_NS
        if span.step_seconds == _HOUR and start_ns < whole_ns < span.end_ns:
            yield from self._past(name, labels, Span(start_ns, whole_ns, 60.0))
            start_ns = whole_ns
        yield from self._past(name, labels, Span(start_ns, span.end_ns, span.step_seconds))
