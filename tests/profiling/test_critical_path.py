"""The critical path adds up: to the wall time of the call, whatever ran beside what."""

from hypothesis import example, given
from hypothesis import strategies as st

from slipstream.core.steps import Span, Trace
from slipstream.profiling.critical_path import by_name, critical_path, own_time_ns
from slipstream.profiling.tail import tail_shares


def span(trace: Trace, name: str, start_ns: int, end_ns: int, *children: Span) -> Span:
    made = Span(name, "", trace, 1, start_ns, end_ns)
    made.children = list(children)
    return made


def call(end_ns: int, *children: Span) -> Trace:
    trace = Trace("call")
    trace.root.start_ns, trace.root.end_ns = 0, end_ns
    trace.root.children = list(children)
    return trace


NOWHERE = Trace("nowhere")


@st.composite
def spans(draw: st.DrawFn, depth: int = 0) -> Span:
    """Any tree: children that overlap, begin before their parent, end after it, or take no time."""
    start_ns = draw(st.integers(0, 1_000))
    made = span(NOWHERE, draw(st.sampled_from("abcdef")), start_ns, start_ns + draw(st.integers(0, 1_000)))
    if depth < 4:
        children = draw(st.lists(spans(depth + 1), max_size=4))
        made.children.extend(sorted(children, key=lambda child: child.start_ns))
    return made


@given(spans())
def test_segments_add_up_to_the_wall_time(root: Span) -> None:
    """To the nanosecond, and no two overlap."""
    segments = sorted(critical_path(root), key=lambda each: each.start_ns)

    assert sum(segment.duration_ns for segment in segments) == root.duration_ns if root.end_ns else True
    edges = [root.start_ns, *(segment.end_ns for segment in segments)]
    assert [segment.start_ns for segment in segments] == edges[:-1]
    assert edges[-1] == root.end_ns
    assert sum(by_name(segments).values()) == root.end_ns - root.start_ns


@given(spans())
def test_own_time_is_within_the_span(root: Span) -> None:
    """Never negative, never more than the span itself."""
    assert 0 <= own_time_ns(root) <= root.end_ns - root.start_ns


def test_one_after_the_other() -> None:
    """Steps and what lies between them."""
    trace = call(100, span(NOWHERE, "a", 10, 40), span(NOWHERE, "b", 50, 90))

    assert by_name(critical_path(trace.root)) == {"a": 30, "b": 40, "call": 30}


def test_of_two_side_by_side_the_later_end_counts() -> None:
    """`gather`: whoever ended first was not waited for, but before the other began."""
    trace = call(100, span(NOWHERE, "short", 0, 30), span(NOWHERE, "long", 1, 100))

    assert by_name(critical_path(trace.root)) == {"long": 99, "short": 1}


def test_what_is_within_a_step_counts_instead_of_it() -> None:
    """The path goes down as deep as it can."""
    inner = span(NOWHERE, "inner", 20, 60)
    trace = call(100, span(NOWHERE, "outer", 10, 70, inner))

    assert by_name(critical_path(trace.root)) == {"inner": 40, "outer": 20, "call": 40}


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcde"), st.floats(0, 1e6), min_size=1), min_size=2, max_size=60
    )
)
@example([{"a": 0.0, "b": 0.0, "c": 0.03, "d": 16385.0}, {"a": 0.0, "b": 0.03, "c": 16385.0}])
def test_tail_shares_add_up(vectors: list[dict[str, float]]) -> None:
    """Both views add up to 100 %, or to nothing where all calls took the same time."""
    shares = tail_shares(vectors)
    for total in (sum(each.variance for each in shares), sum(each.gap for each in shares)):
        assert abs(total - 1.0) < 1e-6 or abs(total) < 1e-6


def test_of_two_that_overlap_each_has_what_was_waited_for() -> None:
    """A pipeline: before the writer began, the reader was what took the time."""
    trace = call(120, span(NOWHERE, "retrieve", 0, 100), span(NOWHERE, "write", 90, 120))

    assert by_name(critical_path(trace.root)) == {"retrieve": 90, "write": 30}


def test_what_outlives_its_step_is_waited_for_by_the_one_above() -> None:
    """A task that was started in a step and is awaited after it."""
    fetch = span(NOWHERE, "fetch", 5, 60)
    trace = call(100, span(NOWHERE, "start", 0, 10, span(NOWHERE, "spawn", 2, 8, fetch)))

    found = by_name(critical_path(trace.root))

    assert found == {"fetch": 55, "call": 40, "spawn": 3, "start": 2}
