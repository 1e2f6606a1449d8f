"""A printed profile of steps: critical path, waits and call tree stand below the table, within a screen."""

import re

from hypothesis import given
from hypothesis import strategies as st

from profiling.driven import Clock
from slipstream.core.steps import DEPTH_MAX
from slipstream.profiling import ResponseTimeProfiler
from slipstream.profiling.call_tree import CallNode
from slipstream.profiling.rendering import TREE_DEPTH_MAX, TREE_ROWS_MAX, percents, shortened, tree_lines

NODES = st.recursive(
    st.builds(CallNode, st.text("abc", min_size=1), st.just(1), st.floats(0, 1e6), st.just(0.0), st.just(())),
    lambda below: st.builds(
        CallNode,
        st.text("abc", min_size=1, max_size=90),
        st.integers(1, 10**9),
        st.floats(0, 1e6),
        st.floats(0, 1e6),
        st.lists(below, max_size=4).map(tuple),
    ),
    max_leaves=60,
)


def part(printed: str, head: str) -> list[str]:
    """The lines from the one that begins so to the next empty one."""
    return next(block for block in printed.split("\n\n") if block.startswith(head)).splitlines()


def test_the_critical_path_adds_up(time_: Clock) -> None:
    """The first steps by their share, the rest as a sum; the shares that are printed make 100 %."""
    profiler = ResponseTimeProfiler()
    with profiler.step("call"):
        for number in range(9):
            with profiler.step(f"step {number}", waits_for="io" if number == 8 else ""):
                time_.pass_ms(7 + number)
    printed = str(profiler.get_profile_data())
    head, *rows, waits = part(printed, "critical path")

    assert head.split() == ["critical", "path", "mean", "share"]
    assert len(rows) == 7
    assert rows[0].split() == ["step", "8", "15", "ms", "15%"]
    assert rows[-1].startswith("… 3 more")
    assert sum(int(row.rpartition(" ")[2].rstrip("%")) for row in rows) == 100
    assert waits == "Waits for: not said 85%, io 15%"


def test_waits_are_told_where_a_step_says_any(time_: Clock) -> None:
    """Nothing but `not said` tells nobody anything."""
    profiler = ResponseTimeProfiler()
    with profiler.step("call"), profiler.step("step"):
        time_.pass_ms(1)

    assert "Waits for" not in str(profiler.get_profile_data())


def test_a_function_without_steps_has_its_line_alone(time_: Clock) -> None:
    """A path of one step and a tree of one place say nothing new."""
    profiler = ResponseTimeProfiler()
    with profiler.step("call"):
        time_.pass_ms(1)
    printed = str(profiler.get_profile_data())

    assert "call: 1 calls" in printed
    assert "critical path" not in printed
    assert "call tree" not in printed


def test_the_tree_shows_how_steps_nest(time_: Clock) -> None:
    """Runs of one place together, dearest first, steps of one name in two places apart."""
    profiler = ResponseTimeProfiler()
    with profiler.step("call"):
        for _ in range(2):
            with profiler.step("search"):
                time_.pass_ms(1)
                with profiler.step("parse"):
                    time_.pass_ms(2)
        with profiler.step("parse"):
            time_.pass_ms(4)
    _, *rows = part(str(profiler.get_profile_data()), "call tree")

    assert [re.split(r"(?<=\S) {2,}", row) for row in rows] == [
        ["call", "1", "10 ms", "0 ms"],
        ["  search", "2", "6 ms", "2 ms"],
        ["    parse", "2", "4 ms", "4 ms"],
        ["  parse", "1", "4 ms", "4 ms"],
    ]


def test_a_deep_tree_is_cut_and_it_is_said(time_: Clock) -> None:
    """What calls itself fills no screen, and does not hide what stands beside it."""
    profiler = ResponseTimeProfiler()

    def down(depth: int) -> None:
        with profiler.step("down"):
            time_.pass_ms(1)
            if depth > 1:
                down(depth - 1)

    with profiler.step("call"):
        down(DEPTH_MAX)
        with profiler.step("beside"):
            time_.pass_ms(1)
    _, *rows, cut = part(str(profiler.get_profile_data()), "call tree")

    assert len(rows) == TREE_DEPTH_MAX + 1
    assert any(row.startswith("  beside ") for row in rows)
    assert cut == f"… {DEPTH_MAX + 2 - len(rows)} more places, {DEPTH_MAX + 1} levels in all"


@given(st.lists(NODES, max_size=5).map(tuple))
def test_a_tree_fits_on_a_screen(nodes: tuple[CallNode, ...]) -> None:
    """At most so many places, 100 columns, and none that stands below one that is not shown."""
    _, *rows = tree_lines(nodes)
    places = [row for row in rows if not row.startswith("…")]
    depths = [(len(row) - len(row.lstrip())) // 2 for row in places]

    assert len(places) <= TREE_ROWS_MAX
    assert len(rows) - len(places) <= 1
    assert max(map(len, rows), default=0) <= 100
    assert all(deeper <= above + 1 for above, deeper in zip([-1, *depths], depths, strict=False))
    assert max(depths, default=0) < TREE_DEPTH_MAX


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=20))
def test_percents_add_up(weights: list[float]) -> None:
    """To 100, each within one of what it is."""
    shares = [weight / sum(weights) for weight in weights]
    told = percents(shares)

    assert sum(told) == 100
    assert all(abs(percent - share * 100) < 1.0001 for percent, share in zip(told, shares, strict=True))


@given(st.text(min_size=0, max_size=60), st.integers(3, 40))
def test_what_is_shortened_shows_it(text: str, width: int) -> None:
    """It keeps its begin and its end; what fits is left alone."""
    short = shortened(text, width)

    assert len(short) == min(len(text), width)
    if len(text) <= width:
        assert short == text
    else:
        begin, end = short[: (width - 1) // 2], short[(width - 1) // 2 + 1 :]
        assert text.startswith(begin)
        assert text.endswith(end)
        assert short == f"{begin}…{end}"


def test_names_are_cut_visibly_within_100_columns(time_: Clock) -> None:
    """In every table; the sentence about the bottleneck has the whole name."""
    profiler = ResponseTimeProfiler()
    with profiler.step("call"), profiler.step("RetrieverService.candidates_of_every_source_there_is"):
        time_.pass_ms(123_456)
    lines = str(profiler.get_profile_data()).splitlines()

    tables = [line for line in lines if not line.startswith("Bottleneck: ")]

    assert max(map(len, tables)) <= 100
    assert sum("Retriever" in line and "…" in line and "there_is" in line for line in lines) == 2
