"""The traces of a profiler, within bounds: sums of all of them, some kept whole, the slowest always.

`add` costs about a microsecond; what it took is worked into the sums when somebody looks or the waiting ones
are many. Safe to call from several threads.
"""

import math
import random
import threading
from collections import Counter, deque

from slipstream.core.histogram import counted
from slipstream.core.steps import ENDED, NAMES_MAX, OTHER, Overflow, Trace
from slipstream.profiling.critical_path import covered_beyond_ns
from slipstream.profiling.forks import begin_anew

WAITING_MAX = 256
"""Traces that wait to be worked in."""
FULL_TIMES, FULL_SECONDS = 16, 0.05
"""Where so many times that wait, whoever brings one more is slowed."""
DURATIONS_MAX = 8_192
"""Durations that wait to be worked in: with many others a quarter of the price of one by one. 330 kB."""
KEPT_MAX = 512
"""Traces kept whole, a uniform sample (Vitter's reservoir; a number is drawn only for those that are taken):
critical path and tail are told from them."""
KEPT_SPANS_MAX = 200_000
"""Spans they may have in all; beyond it some of them are let go, at random, and there is room for fewer."""
SLOWEST_MAX = 10
"""The slowest are kept besides."""

_ENDED_ROOT = ENDED.root


class Sums:
    """What is known of all spans of one name; times in nanoseconds. Right after `settle`."""

    __slots__ = ("buckets", "children_ns", "count", "durations", "errors", "kind", "max_ns", "total_ns")

    def __init__(self, kind: str = "") -> None:
        self.kind = kind
        self.count = self.errors = 0
        self.total_ns = self.children_ns = self.max_ns = 0
        self.buckets: Counter[int] = Counter()
        self.durations: list[int] = []

    @property
    def own_ns(self) -> int:
        """Their time that nothing within them covers."""
        return self.total_ns - self.children_ns

    def add_many(self, beyond: Overflow) -> None:
        """Spans that stand in no tree."""
        self.count += beyond.count
        self.errors += beyond.errors
        self.total_ns += beyond.total_ns
        self.children_ns += beyond.total_ns - beyond.own_ns
        self.max_ns = max(self.max_ns, beyond.max_ns)
        self.buckets.update(beyond.buckets)

    def copied(self) -> "Sums":
        """The same, for whoever reads while others add."""
        copy = Sums(self.kind)
        copy.count, copy.errors, copy.max_ns = self.count, self.errors, self.max_ns
        copy.total_ns, copy.children_ns, copy.buckets = self.total_ns, self.children_ns, self.buckets.copy()
        return copy

    def settle(self) -> None:
        """Work in the `durations`."""
        durations = self.durations
        if durations:
            self.count += len(durations)
            self.total_ns += sum(durations)
            self.max_ns = max(self.max_ns, *durations)
            self.buckets.update(counted(durations))
            durations.clear()


class Collection:
    """Takes closed traces.

    Attributes:
        steps, roots: sums by name, of the steps and of the calls they belong to.
        kept: the sample; `slowest`: the slowest calls, slowest first.
        calls, late, not_kept: traces in all, spans that outlived their call, spans that found no room.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 (a sample, no secret)
        self.forked()
        begin_anew(self)

    def forked(self) -> None:
        """A forked child begins anew, and no other thread of it works anything in."""
        self._lock = threading.Lock()
        self._waiting: deque[Trace] = deque()
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
            self._kept_spans = self._unsettled = self._next = 0
            self._slow_ns = -1
            self._room = KEPT_MAX

    def add(self, trace: Trace) -> None:
        """Take a trace whose root has ended."""
        self._waiting.append(trace)
        waiting = len(self._waiting)
        if waiting < WAITING_MAX:
            return
        # Not waited for without end: the collector may end a forgotten stream within `_work_in` itself.
        if self._lock.acquire(timeout=FULL_SECONDS if waiting >= FULL_TIMES * WAITING_MAX else 0):
            try:
                self._work_in()
            finally:
                self._lock.release()

    def settled(self) -> "Collection":
        """All that was taken up to now, as a copy: other threads go on taking."""
        copied = Collection()
        with self._lock:
            self._work_in()
            self._settle()
            copied.steps = {name: sums.copied() for name, sums in self.steps.items()}
            copied.roots = {name: sums.copied() for name, sums in self.roots.items()}
            copied.kept, copied.slowest = list(self.kept), list(self.slowest)
            copied.calls, copied.late, copied.not_kept = self.calls, self.late, self.not_kept
        return copied

    def settle(self) -> None:
        """Work in all that waits."""
        with self._lock:
            self._work_in()
            self._settle()

    def _work_in(self) -> None:
        for _ in range(len(self._waiting)):  # others add meanwhile: those are the next one's
            trace = self._waiting.popleft()
            self.calls += 1
            took_ns = self._sum(trace)
            if took_ns > self._slow_ns:
                self._keep_slow(trace)
            elif self.calls < self._next:
                trace.root = _ENDED_ROOT  # no cycle is left: its spans are freed at once
                continue
            self._keep(trace)

    def _settle(self) -> None:
        for sums in (*self.steps.values(), *self.roots.values()):
            sums.settle()
        self._unsettled = 0

    def _sum(self, trace: Trace) -> int:
        """Work in its spans; how long it took."""
        root, known = trace.root, self.steps.get
        sums = self.roots.get(root.name) or self._sums(self.roots, root.name, root.kind)
        took_ns = root.end_ns - root.start_ns
        sums.durations.append(took_ns)
        if root.error:
            sums.errors += 1
        parents = [(root, sums)]
        for parent, above in parents:  # grows meanwhile; as tight as can be, for every step comes by here
            reached_ns, last_ns, covered_ns = parent.start_ns, parent.end_ns, 0
            for span in parent.children:  # in the order of their beginnings
                start_ns, end_ns = span.start_ns, span.end_ns
                if not end_ns:
                    span.end_ns = end_ns = max(root.end_ns, start_ns)
                    trace.late += 1
                sums = known(span.name) or self._sums(self.steps, span.name, span.kind)
                sums.durations.append(end_ns - start_ns)
                if span.error:
                    sums.errors += 1
                if span.children:
                    parents.append((span, sums))
                if (
                    start_ns < reached_ns or end_ns > last_ns
                ):  # beside the one before it, or beyond its parent
                    start_ns, end_ns = max(reached_ns, start_ns), min(last_ns, end_ns)
                if end_ns > start_ns:
                    covered_ns += end_ns - start_ns
                    reached_ns = end_ns
            above.children_ns += covered_ns
        if trace.late:
            self.late += trace.late
        self._unsettled += trace.size
        if self._unsettled >= DURATIONS_MAX:
            self._settle()
        if trace.overflow:
            self._sum_overflow(trace)
        return took_ns

    def _sum_overflow(self, trace: Trace) -> None:
        for name, beyond in trace.overflow.items():
            self.not_kept += beyond.count
            self._sums(self.steps, name, beyond.kind).add_many(beyond)
        for span in trace.covered:
            table = self.roots if span is trace.root else self.steps
            self._sums(table, span.name, span.kind).children_ns += covered_beyond_ns(span)

    @staticmethod
    def _sums(table: dict[str, Sums], name: str, kind: str) -> Sums:
        found = table.get(name)
        if found is None:
            found = table.setdefault(name if len(table) < NAMES_MAX else OTHER, Sums(kind))
        return found

    def _keep_slow(self, trace: Trace) -> None:
        slowest = self.slowest
        slowest.append(trace)
        slowest.sort(key=lambda each: each.root.duration_ns, reverse=True)
        del slowest[SLOWEST_MAX:]
        if len(slowest) == SLOWEST_MAX:
            self._slow_ns = slowest[-1].root.duration_ns

    def _keep(self, trace: Trace) -> None:
        """Into the sample, where it is drawn."""
        kept = self.kept
        if len(kept) < self._room:
            kept.append(trace)
        elif self.calls < self._next:
            return
        else:
            at = self._random.randrange(len(kept))
            self._kept_spans -= kept[at].size
            kept[at] = trace
        self._kept_spans += trace.size
        while self._kept_spans > KEPT_SPANS_MAX and len(kept) > 1:
            gone = kept.pop(self._random.randrange(len(kept)))
            self._kept_spans -= gone.size
            self._room = len(kept)
        if len(kept) >= self._room:
            self._skip()

    def _skip(self) -> None:
        """Draw which call is the next to be taken into the sample: each one with chance room / calls."""
        share = min(self._room / self.calls, 1.0 - 1e-12)
        passed = math.log(1.0 - self._random.random()) / math.log1p(-share)
        self._next = self.calls + 1 + math.floor(passed)
