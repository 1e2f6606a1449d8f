"""Steps of a program's time: a tree of spans for each call, cheap enough to stay on.

It holds what was timed and what its bounds are; it does not know how steps are opened or what they tell.
Times are nanoseconds of `core.clock`, which mean nothing in another process.
"""

from collections.abc import Iterator

from msgspec import Struct

from slipstream.core import clock
from slipstream.core.histogram import index

SPANS_MAX = 10_000
"""Spans that one trace keeps; later ones are summed up by name in `Trace.overflow`."""
DEPTH_MAX = 128
"""Deeper spans, of a recursion, are summed up too."""
BEYOND = DEPTH_MAX + 1
"""The depth of a span that found no room."""
NAMES_MAX = 1_000
"""Names of steps that are told apart; later ones count as `OTHER`."""
OTHER = "__other__"
NO_ROOM = "(steps without room)"
"""What trees and stacks call the spans that found none."""

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


class Beyond(Span):
    """A span that found no room: it stands in no tree, and is counted when it has ended.

    Attributes:
        above: the span that it began in.
        covered_ns: time of those that began in it.
    """

    above: Span | None = None
    covered_ns: int = 0


class Overflow(Struct):
    """The spans of a name that found no room; times in nanoseconds.

    Attributes:
        own_ns: their time without that of others which began in them.
        buckets: how many durations fell into each slot of `core.histogram`.
    """

    name: str
    kind: str
    count: int = 0
    errors: int = 0
    total_ns: int = 0
    own_ns: int = 0
    max_ns: int = 0
    buckets: dict[int, int] = {}


_NONE: dict[Span, list[int]] = {}


class Trace:
    """All that was timed of one call: a tree under `root`.

    Attributes:
        size: spans in the tree.
        overflow: what did not fit, by name.
        covered: how many of those, and for how long, began in a span of the tree.
        late: spans that were still open when the root ended; they end with it.
    """

    __slots__ = ("covered", "late", "overflow", "root", "size")

    def __init__(self, name: str, kind: str = "") -> None:
        self.size = 1
        self.late = 0
        self.overflow: dict[str, Overflow] = {}
        self.covered: dict[Span, list[int]] = _NONE
        self.root = Span(name, kind, self, 0, clock.monotonic_ns())

    def open(self, parent: Span, name: str, kind: str) -> Span:
        """A span within `parent`. Where the trace is full it stands in no tree: `count` it afterwards."""
        depth = parent.depth + 1
        if self.size >= SPANS_MAX or depth > DEPTH_MAX:
            return Beyond(name, kind, self, BEYOND, clock.monotonic_ns(), above=parent)
        self.size += 1
        span = Span(name, kind, self, depth, clock.monotonic_ns())
        if parent.children:
            parent.children.append(span)
        else:
            parent.children = [span]
        return span

    def count(self, span: Beyond) -> None:
        """Sum up a step that found no room, now that it has ended."""
        name, taken_ns, above = span.name, span.end_ns - span.start_ns, span.above
        found = self.overflow.get(name)
        if found is None:
            name = name if len(self.overflow) < NAMES_MAX else OTHER
            found = self.overflow.setdefault(name, Overflow(name, span.kind))
        found.count += 1
        found.errors += bool(span.error)
        found.total_ns += taken_ns
        found.own_ns += max(0, taken_ns - span.covered_ns)
        found.max_ns = max(found.max_ns, taken_ns)
        slot = index(taken_ns)
        found.buckets[slot] = found.buckets.get(slot, 0) + 1
        if isinstance(above, Beyond):
            above.covered_ns += taken_ns
        elif above is not None:
            if self.covered is _NONE:
                self.covered = {}
            covered = self.covered.setdefault(above, [0, 0])
            covered[0] += 1
            covered[1] += taken_ns

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
