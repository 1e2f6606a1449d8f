"""The traces of a profiler, within bounds: sums of all of them, some kept whole, the slowest always.

`add` costs about a microsecond; what it took is worked into the sums when somebody looks or the waiting ones
are many. Safe to call from several threads.
"""

import random
import threading
from collections.abc import Iterator

from slipstream.core.histogram import index
from slipstream.core.steps import NAMES_MAX, OTHER, Span, Trace
from slipstream.profiling.critical_path import own_time_ns

WAITING_MAX = 256
"""Traces that wait to be worked in."""
KEPT_MAX = 512
"""Traces kept whole, a uniform sample (Vitter's algorithm R): critical path and tail are told from them."""
KEPT_SPANS_MAX = 200_000
"""Spans they may have in all; beyond it some of them are let go, at random."""
SLOWEST_MAX = 10
"""The slowest are kept besides."""


class Sums:
    """What is known of all spans of one name; times in nanoseconds."""

    __slots__ = ("buckets", "count", "errors", "kind", "max_ns", "own_ns", "total_ns")

    def __init__(self, kind: str = "") -> None:
        self.kind = kind
        self.count = self.errors = 0
        self.total_ns = self.own_ns = self.max_ns = 0
        self.buckets: dict[int, int] = {}

    def add(self, duration_ns: int, own_ns: int, *, is_error: bool = False) -> None:
        """One more span."""
        self.count += 1
        self.errors += is_error
        self.total_ns += duration_ns
        self.own_ns += own_ns
        self.max_ns = max(self.max_ns, duration_ns)
        slot = index(duration_ns)
        self.buckets[slot] = self.buckets.get(slot, 0) + 1

    def add_many(self, count: int, total_ns: int) -> None:
        """Spans of which only the sum is known; their mean stands for each."""
        self.count += count
        self.total_ns += total_ns
        self.own_ns += total_ns
        slot = index(total_ns / count)
        self.buckets[slot] = self.buckets.get(slot, 0) + count


class Collection:
    """Takes closed traces.

    Attributes:
        steps, roots: sums by name, of the steps and of the calls they belong to.
        kept: the sample; `slowest`: the slowest calls, slowest first.
        calls, late, not_kept: traces in all, spans that outlived their call, spans that found no room.
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311 (a sample, no secret)
        self._waiting: list[Trace] = []
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._waiting.clear()
            self.steps: dict[str, Sums] = {}
            self.roots: dict[str, Sums] = {}
            self.kept: list[Trace] = []
            self.slowest: list[Trace] = []
            self.calls = self.late = self.not_kept = 0
            self._kept_spans = 0

    def add(self, trace: Trace) -> None:
        """Take a trace whose root has ended."""
        with self._lock:
            self._waiting.append(trace)
            if len(self._waiting) >= WAITING_MAX:
                self._work_in()

    def settle(self) -> None:
        """Work in what waits."""
        with self._lock:
            self._work_in()

    def _work_in(self) -> None:
        for trace in self._waiting:
            trace.close()
            self.calls += 1
            self.late += trace.late
            self._sum(trace)
            self._keep(trace)
        self._waiting.clear()

    def _sum(self, trace: Trace) -> None:
        for span in trace.spans():
            sums = self._sums(self.roots if span is trace.root else self.steps, span.name, span.kind)
            own_ns = own_time_ns(span) if span.children else span.duration_ns
            sums.add(span.duration_ns, own_ns, is_error=bool(span.error))
        for name, (count, total_ns) in trace.overflow.items():
            self.not_kept += count
            self._sums(self.steps, name, "").add_many(count, total_ns)

    @staticmethod
    def _sums(table: dict[str, Sums], name: str, kind: str) -> Sums:
        found = table.get(name)
        if found is None:
            found = table.setdefault(name if len(table) < NAMES_MAX else OTHER, Sums(kind))
        return found

    def _keep(self, trace: Trace) -> None:
        slowest = self.slowest
        if len(slowest) < SLOWEST_MAX or trace.root.duration_ns > slowest[-1].root.duration_ns:
            slowest.append(trace)
            slowest.sort(key=lambda each: each.root.duration_ns, reverse=True)
            del slowest[SLOWEST_MAX:]
        kept = self.kept
        if len(kept) < KEPT_MAX:
            kept.append(trace)
        else:
            at = self._random.randrange(self.calls)
            if at >= KEPT_MAX:
                return
            self._kept_spans -= kept[at].size
            kept[at] = trace
        self._kept_spans += trace.size
        while self._kept_spans > KEPT_SPANS_MAX and len(kept) > 1:
            gone = kept.pop(self._random.randrange(len(kept)))
            self._kept_spans -= gone.size


def each_span(traces: list[Trace]) -> Iterator[Span]:
    """Every span of several traces."""
    for trace in traces:
        yield from trace.spans()
