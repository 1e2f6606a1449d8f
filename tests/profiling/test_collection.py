"""What is kept of many calls: exact sums, a fair sample, the slowest, and no memory of the rest."""

import gc
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.steps import Span, Trace
from slipstream.profiling import ResponseTimeProfiler, collection
from slipstream.profiling.collection import KEPT_MAX, SLOWEST_MAX, Collection
from slipstream.profiling.critical_path import own_time_ns

SPANS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 2000), st.integers(1, 800)),
    max_size=12,
)


def call(duration_ns: int = 1000, steps: list[tuple[str, int, int, int]] | None = None) -> Trace:
    """A call with steps: name, which span it is within, start, duration."""
    trace = Trace("call")
    trace.root.start_ns, trace.root.end_ns = 0, 0
    spans = [trace.root]
    for name, above, start_ns, taken_ns in sorted(steps or (), key=lambda each: each[2]):
        parent = spans[above % len(spans)]
        span = trace.open(parent, name, "")
        span.start_ns = max(start_ns, parent.start_ns)
        span.end_ns = span.start_ns + taken_ns
        spans.append(span)
    trace.root.end_ns = duration_ns
    return trace


@given(st.lists(SPANS, max_size=6))
def test_sums_are_those_of_every_span(calls: list[list[tuple[str, int, int, int]]]) -> None:
    """Counts, totals and own times are what a walk over the trees gives, overlapping steps and late ones too."""
    taken, walked = Collection(), [call(1000, steps) for steps in calls]
    for steps in calls:
        taken.add(call(1000, steps))
    taken.settle()

    spans = [span for trace in walked for span in trace.spans() if span is not trace.root]
    assert {name: sums.count for name, sums in taken.steps.items()} == Counter(span.name for span in spans)
    for name, sums in taken.steps.items():
        mine = [span for span in spans if span.name == name]
        assert sums.total_ns == sum(span.duration_ns for span in mine)
        assert sums.own_ns == sum(own_time_ns(span) for span in mine)
        assert sums.max_ns == max(span.duration_ns for span in mine)
        assert sum(sums.buckets.values()) == len(mine)
    if walked:
        assert taken.roots["call"].own_ns == sum(own_time_ns(trace.root) for trace in walked)


def test_the_sample_is_fair() -> None:
    """Early and late calls are kept alike often: each fifth of them has its share within a fifth of it."""
    kept: Counter[int] = Counter()
    for seed in range(8):
        taken = Collection(seed)
        for number in range(10_000):
            trace = call(1000)
            trace.late = number  # a place to write the number on
            taken.add(trace)
        taken.settle()
        assert len(taken.kept) == KEPT_MAX
        kept.update(trace.late // 2000 for trace in taken.kept)

    assert all(count == pytest.approx(8 * KEPT_MAX / 5, rel=0.2) for count in kept.values())
    assert len(kept) == 5


def test_the_slowest_are_always_kept() -> None:
    """Whatever the sample takes."""
    taken = Collection()
    for number in range(5_000):
        taken.add(call(1000 + (number * 7919) % 5_000))
    taken.settle()

    assert [trace.root.duration_ns for trace in taken.slowest] == [5_999 - at for at in range(SLOWEST_MAX)]


def test_what_is_not_kept_is_freed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cycle is left for the garbage collector, whose pauses would grow with the traffic."""
    monkeypatch.setattr(collection, "KEPT_MAX", 2)
    taken = Collection()
    gc.collect()
    gc.disable()
    try:
        before = spans_alive()
        for number in range(1_000):
            taken.add(call(5_000 - number, [("a", 0, 1, 5)]))
        taken.settle()
        alive = spans_alive() - before
    finally:
        gc.enable()

    assert alive < 2 * 60  # of those kept, the slowest, and those that left the sample later


def spans_alive() -> int:
    return sum(type(each) is Span for each in gc.get_objects())


@pytest.mark.long
def test_it_is_read_while_threads_go_on() -> None:
    """New names come meanwhile; every reading is whole."""
    profiler = ResponseTimeProfiler()
    done = threading.Event()

    def work(thread: int) -> None:
        number = 0
        while not done.is_set():
            with profiler.step("call"), profiler.step(f"step {thread} {number % 900}"):
                number += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for each in threads:
        each.start()
    try:
        calls = [profiler.get_profile_data().calls for _ in range(4)]
    finally:
        done.set()
        for each in threads:
            each.join()

    assert calls == sorted(calls)
    assert calls[-1] > 0
