"""Windows that reach beyond what memory holds: their older part comes from the file, and is kept a minute.

Where the file ends and memory begins is one moment, so nothing is counted twice. Reading is slow; who
calls `renew` from a thread spares the event loop all but the first reading of a window.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from slipstream.core.readings import Labels, Point, Span
from slipstream.monitoring.points import cut_between

RENEW_SECONDS = 60
"""How long what was read is good for."""
FORGET_SECONDS = 1800
"""When a window that nobody asks for is no longer read."""
SLACK_SECONDS = 600
"""Memory must hold on to what it tells for as long as what was read is used."""
QUESTIONS_MAX = 256
_HOUR_NS = 3600 * 1_000_000_000
_DAY_SECONDS = 86_400
_ALWAYS = "memory_bytes"
"""A gauge that every server sets from its first seconds on."""

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
        since_ns: the first moment of which anything is known.
        frame: when it was read.
    """

    points: Sequence[Point]
    first: int
    since_ns: int
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
                self._read.clear()
                self._asked = {question: now.frame}
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
        start_ns = now.wall_ns - int(window_seconds * 1e9)
        step = 3600.0 if window_seconds > _DAY_SECONDS else 60.0
        oldest_ns = (
            walls[min(SLACK_SECONDS, len(walls) - 1)][1] if len(walls) > SLACK_SECONDS else walls[0][1]
        )
        cut_ns = max(cut_between(oldest_ns, now.wall_ns, step), start_ns)
        points: list[Point] = []
        whole_ns = -(-start_ns // _HOUR_NS) * _HOUR_NS
        if step == 3600.0 and start_ns < whole_ns < cut_ns:  # the first hour is not whole
            points += self._past(name, dict(labels), Span(start_ns, whole_ns, 60.0))
            start_ns = whole_ns
        points += self._past(name, dict(labels), Span(start_ns, cut_ns, step))
        first = next((frame for frame, wall_ns in walls if wall_ns > cut_ns), now.frame + 1)
        return Older(points, first, self._since(now, window_seconds, oldest_ns), now.frame)

    def _since(self, now: Moment, window_seconds: float, oldest_ns: int) -> int:
        """Since when anything was watched: a counter that stands still is not stored, memory in use is."""
        start_ns = now.wall_ns - int(window_seconds * 1e9)
        since_ns = oldest_ns
        for step in (3600.0, 60.0):  # the hour, and the minute within it
            end_ns = min(oldest_ns, start_ns + _HOUR_NS) if step == 60.0 else oldest_ns
            points = self._past(_ALWAYS, {}, Span(start_ns, end_ns, step))
            start_ns = since_ns = min([point.wall_ns for point in points], default=since_ns)
        return since_ns
