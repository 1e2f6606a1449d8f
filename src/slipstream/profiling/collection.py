"""The traces of a profiler, within bounds: sums of all of them, some kept whole, the slowest always.

`add` costs about a microsecond; what it took is worked into the sums when somebody looks or the waiting ones
are many. Safe to call from several threads.
"""

import random
import threading
from collections import Counter

from slipstream.core.histogram import index
from slipstream.core.steps import ENDED, NAMES_MAX, OTHER, Trace
from slipstream.profiling.critical_path import own_time_ns

WAITING_MAX = 256
"""Traces that wait to be worked in."""
DURATIONS_MAX = 1_024
"""Durations of one name that wait to be worked in."""
KEPT_MAX = 512
"""Traces kept whole, a uniform sample (Vitter's algorithm R): critical path and tail are told from them."""
KEPT_SPANS_MAX = 200_000
"""Spans they may have in all; beyond it some of them are let go, at random."""
SLOWEST_MAX = 10
"""The slowest are kept besides."""


class Sums:
    """What is known of all spans of one name; times in nanoseconds. Right after `settle`."""

    __slots__ = ("_durations", "buckets", "children_ns", "count", "errors", "kind", "max_ns", "total_ns")

    def __init__(self, kind: str = "") -> None:
        self.kind = kind
        self.count = self.errors = 0
        self.total_ns = self.children_ns = self.max_ns = 0
        self.buckets: Counter[int] = Counter()
        self._durations: list[int] = []

    @property
    def own_ns(self) -> int:
        """Their time that nothing within them covers."""
        return self.total_ns - self.children_ns

    def add(self, duration_ns: int) -> None:
        """One more span; worked in with many others, which costs a quarter of one by one."""
        durations = self._durations
        durations.append(duration_ns)
        if len(durations) >= DURATIONS_MAX:
            self.settle()

    def add_many(self, count: int, total_ns: int) -> None:
        """Spans of which only the sum is known; their mean stands for each."""
        self.count += count
        self.total_ns += total_ns
        self.buckets[index(total_ns / count)] += count

    def settle(self) -> None:
        """Work in what was added."""
        durations = self._durations
        if durations:
            self.count += len(durations)
            self.total_ns += sum(durations)
            self.max_ns = max(self.max_ns, *durations)
            self.buckets.update(map(index, durations))
            durations.clear()


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
        """Work in all that waits."""
        with self._lock:
            self._work_in()
            for sums in (*self.steps.values(), *self.roots.values()):
                sums.settle()

    def _work_in(self) -> None:
        for trace in self._waiting:
            self.calls += 1
            self._sum(trace)
            self._keep(trace)
        self._waiting.clear()

    def _sum(self, trace: Trace) -> None:
        root, steps = trace.root, self.steps
        for span in trace.spans():
            duration_ns = span.end_ns - span.start_ns
            if not span.end_ns:
                span.end_ns = max(root.end_ns, span.start_ns)
                duration_ns = span.end_ns - span.start_ns
                trace.late += 1
            span.trace = ENDED  # no cycle is left: what is not kept is freed at once
            sums = steps.get(span.name) if span is not root else None
            if sums is None:
                sums = self._sums(self.roots if span is root else steps, span.name, span.kind)
            sums.add(duration_ns)
            if span.children:
                sums.children_ns += duration_ns - own_time_ns(span)
            if span.error:
                sums.errors += 1
        self.late += trace.late
        for name, (count, total_ns) in trace.overflow.items():
            self.not_kept += count
            self._sums(steps, name, "").add_many(count, total_ns)

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
