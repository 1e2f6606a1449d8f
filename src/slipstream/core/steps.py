"""Steps of a program's time: a tree of spans for each call, cheap enough to stay on.

It holds what was timed and what its bounds are; it does not know how steps are opened or what they tell.
Times are nanoseconds of `core.clock`, which mean nothing in another process.
"""

from collections.abc import Iterator

from msgspec import Struct

from slipstream.core import clock

SPANS_MAX = 10_000
"""Spans that one trace keeps; later ones are summed up by name in `Trace.overflow`."""
DEPTH_MAX = 128
"""Deeper spans, of a recursion, are summed up too: their time stays with the span above."""
BEYOND = DEPTH_MAX + 1
"""The depth of a span that found no room."""
NAMES_MAX = 1_000
"""Names of steps that are told apart; later ones count as `OTHER`."""
OTHER = "__other__"

KINDS = ("", "cpu", "queue", "pool", "upstream", "loop", "io")
"""What a step spends its time on, where its author says so."""


class Span(Struct, eq=False):
    """One stretch of time within a trace.

    Attributes:
        name, kind: what it is, and what it waits for (one of `KINDS`).
        depth: spans above it.
        start_ns, end_ns: `end_ns` is 0 while it is open.
        first_ns: when the first item of a stream came, 0 for none.
        error: name of the exception's type that ended it, empty for none.
        children: spans that began within it, in the order of their beginnings.
    """

    name: str
    kind: str
    trace: "Trace"
    depth: int
    start_ns: int
    end_ns: int = 0
    first_ns: int = 0
    error: str = ""
    children: "list[Span] | tuple[()]" = ()

    @property
    def duration_ns(self) -> int:
        """How long it took; of one that is open, up to now."""
        return (self.end_ns or clock.monotonic_ns()) - self.start_ns

    def event(self) -> None:
        """The first item of a stream is here; later calls change nothing."""
        self.first_ns = self.first_ns or clock.monotonic_ns()


class Trace:
    """All that was timed of one call: a tree under `root`.

    Attributes:
        size: spans in the tree.
        overflow: what did not fit, by name: count and nanoseconds.
        late: spans that were still open when the root ended; they end with it.
    """

    __slots__ = ("late", "overflow", "root", "size")

    def __init__(self, name: str, kind: str = "") -> None:
        self.size = 1
        self.late = 0
        self.overflow: dict[str, list[int]] = {}
        self.root = Span(name, kind, self, 0, clock.monotonic_ns())

    def open(self, parent: Span, name: str, kind: str) -> Span:
        """A span within `parent`. Where the trace is full it stands in no tree: `count` it afterwards."""
        depth = parent.depth + 1
        if self.size >= SPANS_MAX or depth > DEPTH_MAX:
            return Span(name, kind, self, BEYOND, clock.monotonic_ns())
        self.size += 1
        span = Span(name, kind, self, depth, clock.monotonic_ns())
        if parent.children:
            parent.children.append(span)
        else:
            parent.children = [span]
        return span

    def count(self, name: str, duration_ns: int) -> None:
        """Sum up a step that found no room."""
        found = self.overflow.get(name)
        if found is None:
            found = self.overflow.setdefault(name if len(self.overflow) < NAMES_MAX else OTHER, [0, 0])
        found[0] += 1
        found[1] += duration_ns

    def spans(self) -> Iterator[Span]:
        """Every span as it would be read: one, what is within it, the next."""
        waiting = [self.root]
        while waiting:
            span = waiting.pop()
            yield span
            waiting.extend(reversed(span.children))


ENDED = Trace("ended")
"""What spans belong to whose call is over and was worked in."""
ENDED.root.end_ns = ENDED.root.start_ns
