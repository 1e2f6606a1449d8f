"""The step profiler: what is timed, what is kept apart, and which step is named."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from profiling.driven import Clock
from slipstream.core import clock, steps
from slipstream.core.errors import BadRequest
from slipstream.core.steps import DEPTH_MAX, NAMES_MAX, NO_ROOM, OTHER, SPANS_MAX, Span
from slipstream.profiling import ResponseTimeProfiler
from slipstream.profiling.exports import to_chrome_trace, to_collapsed, to_otlp, to_speedscope
from slipstream.profiling.profile_data import ProfileData
from slipstream.profiling.rendering import waterfall


def test_nothing_recorded() -> None:
    """An empty profile says so and names no bottleneck."""
    data = ResponseTimeProfiler().get_profile_data()

    assert str(data) == "nothing recorded"
    assert (data.calls, data.bottleneck, data.step_timings) == (0, None, {})


def test_steps_of_a_function(time_: Clock) -> None:
    """Totals, counts, own time, percentiles and the bottleneck, in milliseconds."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    def answer() -> str:
        with profiler.step("search"):
            time_.pass_ms(10)
        with profiler.step("model", waits_for="upstream"):
            time_.pass_ms(70)
            with profiler.step("parse"):
                time_.pass_ms(10)
        time_.pass_ms(10)
        return "done"

    assert [answer(), answer()] == ["done", "done"]
    data = profiler.get_profile_data()

    model = data.step_timings["model"]
    assert (float(model), model.count, model.self_ms) == (160.0, 2, 140.0)
    assert model.p95 == pytest.approx(80, rel=0.011)
    assert data.bottleneck == "model"
    assert data.bottleneck.share == pytest.approx(0.7)
    assert list(data.step_timings) == ["model", "search", "parse"]
    shares = {step.step: step.share for step in data.critical_path}
    assert shares == pytest.approx({"model": 0.7, "search": 0.1, "parse": 0.1, "answer (own time)": 0.1})
    assert data.waits["upstream"] == pytest.approx(0.7)
    assert "Bottleneck: model" in str(data)


def test_the_tail_is_explained_not_the_mean(time_: Clock) -> None:
    """A step that is always long is not what makes slow calls slow."""
    profiler = ResponseTimeProfiler()
    for number in range(200):
        with profiler.step("call"):
            with profiler.step("model"):
                time_.pass_ms(100)
            with profiler.step("lock"):
                time_.pass_ms(90 if number % 10 == 0 else 1)

    data = profiler.get_profile_data()

    assert data.bottleneck == "lock"
    assert data.tail[0].step == "lock"
    assert data.tail[0].variance == pytest.approx(1.0)
    assert data.tail[0].mean_share < 0.1


def test_no_step_stands_out(time_: Clock) -> None:
    """Two that take the same: none is named, and it is said why."""
    profiler = ResponseTimeProfiler()
    with profiler.step("call"):
        for name in ("one", "two"):
            with profiler.step(name):
                time_.pass_ms(10)

    data = profiler.get_profile_data()

    assert data.bottleneck is None
    assert "share it" in data.reason


def test_concurrent_tasks_are_kept_apart() -> None:
    """Each call has its own steps, however they interleave."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    async def answer(name: str) -> None:
        with profiler.step(name):
            await asyncio.sleep(0)
            async with profiler.step(f"{name} inner"):
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(answer(f"step {number}") for number in range(50)))

    asyncio.run(main())
    data = profiler.get_profile_data()

    assert data.calls == 50
    for trace in data.traces:
        (step,) = trace.root.children
        assert [child.name for child in step.children] == [f"{step.name} inner"]


def test_a_task_started_in_a_step_belongs_to_it() -> None:
    """And the path of the call goes through the one that ended last."""
    profiler = ResponseTimeProfiler()

    async def fetch(name: str, seconds: float) -> None:
        with profiler.step(name):
            await asyncio.sleep(seconds)

    @profiler.profile_response_time
    async def answer() -> None:
        with profiler.step("fetch"):
            await asyncio.gather(fetch("short", 0.001), fetch("long", 0.05))

    asyncio.run(answer())
    data = profiler.get_profile_data()

    (step,) = data.traces[0].root.children
    assert {child.name for child in step.children} == {"short", "long"}
    assert data.bottleneck == "long"


def test_threads_are_kept_apart() -> None:
    """Steps of threads that know nothing of each other are calls of their own."""
    profiler = ResponseTimeProfiler()

    def work() -> None:
        for _ in range(100):
            with profiler.step("outer"), profiler.step("inner"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = profiler.get_profile_data()

    assert data.calls == 800
    assert data.step_timings["inner"].count == 800


def test_exceptions_and_cancellation_pass_and_are_noted() -> None:
    """The call fails as it did, its steps end, the next call is a new one."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    async def answer(seconds: float) -> None:
        with profiler.step("wait"):
            await asyncio.sleep(seconds)
            raise LookupError

    async def main() -> None:
        with pytest.raises(LookupError):
            await answer(0)
        task = asyncio.create_task(answer(60))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())
    data = profiler.get_profile_data()

    assert sorted(trace.root.error for trace in data.traces) == ["CancelledError", "LookupError"]
    assert data.step_timings["wait"].errors == 2
    assert profiler.current.get() is None


def test_a_stream_ends_at_its_last_item(time_: Clock) -> None:
    """The first item is an event; what its reader does between the items is no step of the stream."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    async def stream() -> AsyncIterator[int]:
        with profiler.step("produce"):
            for number in range(3):
                time_.pass_ms(10)
                yield number

    async def main() -> list[int]:
        found = []
        async for item in stream():
            found.append(item)
            with profiler.step("reader"):
                time_.pass_ms(1)
        return found

    assert asyncio.run(main()) == [0, 1, 2]
    data = profiler.get_profile_data()

    streams = [trace.root for trace in data.traces if trace.root.name.endswith("stream")]
    assert [child.name for child in streams[0].children] == ["produce"]
    assert streams[0].first_ns - streams[0].start_ns == 10_000_000
    assert streams[0].duration_ns == 33_000_000
    assert sum(trace.root.name == "reader" for trace in data.traces) == 3


def test_generators_are_generators(time_: Clock) -> None:
    """`send`, `throw` and what it returns work as ever; leaving early ends the call without an error."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    def echo() -> Iterator[str]:
        heard = ""
        while heard != "end":
            try:
                heard = yield heard
            except KeyError:
                heard = "thrown"
        return "bye"

    talk = echo()
    assert [next(talk), talk.send("a"), talk.throw(KeyError("x"))] == ["", "a", "thrown"]
    with pytest.raises(StopIteration, match="bye"):
        talk.send("end")
    left = echo()
    next(left)
    left.close()
    data = profiler.get_profile_data()

    assert data.calls == 2
    assert [trace.root.error for trace in data.traces] == ["", ""]


def test_memory_is_bounded() -> None:
    """A million steps, any depth and any number of names: sums stay right, trees stay small."""
    profiler = ResponseTimeProfiler()
    many = SPANS_MAX * 3

    def down(depth: int) -> None:
        if depth:
            with profiler.step("down"):
                down(depth - 1)

    with profiler.step("call"):
        for number in range(many):
            with profiler.step(f"step {number % (NAMES_MAX * 2)}"):
                pass
    data = profiler.get_profile_data()
    assert sum(timing.count for timing in data.step_timings.values()) == many
    assert max(trace.size for trace in data.traces) <= SPANS_MAX
    assert len(data.step_timings) <= NAMES_MAX + 1
    assert OTHER in data.step_timings
    assert data.not_kept > 0
    assert str(data)

    profiler.reset()
    down(DEPTH_MAX * 2)
    data = profiler.get_profile_data()
    assert data.step_timings["down"].count + data.calls == DEPTH_MAX * 2
    assert data.not_kept == DEPTH_MAX - 1
    assert str(data)


def test_steps_without_room_are_counted_as_others(time_: Clock) -> None:
    """Beyond the bound every figure is what it would have been: times, own times, percentiles, the bottleneck."""
    profiler = ResponseTimeProfiler()
    with profiler.step("call"):
        time_.pass_ms(2)
        for number in range(SPANS_MAX * 2):
            with profiler.step("row"):
                time_.pass_ms(0.5)
                with profiler.step("fetch", waits_for="io"):
                    time_.pass_ms(100 if number == SPANS_MAX * 2 - 1 else 1)
    data = profiler.get_profile_data()
    row, fetch = data.step_timings["row"], data.step_timings["fetch"]

    count = SPANS_MAX * 2
    assert (row.count, fetch.count) == (count, count)
    assert data.not_kept == 2 * count - SPANS_MAX + 1
    assert fetch == pytest.approx(count + 99)
    assert fetch.self_ms == pytest.approx(count + 99)
    assert row == pytest.approx(1.5 * count + 99)
    assert row.self_ms == pytest.approx(0.5 * count)
    assert (fetch.max, row.max) == (100, 100.5)
    assert fetch.p95 == pytest.approx(1, rel=0.011)
    assert data.response_time["call"].self_ms == pytest.approx(2)
    assert data.bottleneck == "fetch"
    path = {each.step: each.mean_ms for each in data.critical_path}
    assert sum(path.values()) == pytest.approx(data.response_time["call"])
    assert path == pytest.approx({"fetch": count + 99, "row": 0.5 * count, "call (own time)": 2}, rel=1e-3)
    assert data.waits["io"] == pytest.approx((count + 99) / data.response_time["call"], rel=1e-3)
    (tree,) = data.tree
    assert sum(each.total_ms for each in tree.children) + tree.self_ms == pytest.approx(tree.total_ms)
    assert NO_ROOM in to_collapsed(data.traces)
    assert "only in the sums" in waterfall(data.traces[0])


PROGRAMS = st.recursive(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.just([])), max_size=4),
    lambda inner: st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), inner), max_size=4),
    max_leaves=20,
)


@given(PROGRAMS, st.integers(1, 12), st.integers(1, 4))
def test_the_bounds_change_no_sum(program: list[Any], spans_max: int, depth_max: int) -> None:
    """Whatever nests in whatever: timings and critical path are those of a tree without bounds."""

    def profiled() -> ProfileData:
        driven, profiler = Clock(), ResponseTimeProfiler()

        def run(part: list[Any]) -> None:
            for name, ms, inner in part:
                with profiler.step(name, waits_for="io" if name == "a" else "cpu"):
                    driven.pass_ms(ms)
                    run(inner)

        with clock.driven_by(lambda: driven.now_ns), profiler.step("call"):
            driven.pass_ms(1)
            run(program)
        return profiler.get_profile_data()

    def figures(data: ProfileData) -> dict[str, float]:
        timings = dict(data.step_timings) | {"call": data.response_time["call"]}
        fields = ("count", "real", "self_ms", "max", "p50", "p95", "p99")
        return {f"{name} {field}": getattr(each, field) for name, each in timings.items() for field in fields}

    whole = profiled()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(steps, "SPANS_MAX", spans_max)
        patched.setattr(steps, "DEPTH_MAX", depth_max)
        cut = profiled()

    assert cut.sampled == whole.sampled == 1
    assert figures(cut) == pytest.approx(figures(whole))
    assert sum(each.mean_ms for each in cut.critical_path) == pytest.approx(whole.response_time["call"])
    assert sum(cut.waits.values()) == pytest.approx(1)


def test_a_recursion_without_room_keeps_its_own_time_apart(time_: Clock) -> None:
    """Each level has its millisecond, the deepest ones too."""
    profiler = ResponseTimeProfiler()

    def down(depth: int) -> None:
        with profiler.step("down"):
            time_.pass_ms(1)
            if depth:
                down(depth - 1)
            else:
                raise ValueError

    with contextlib.suppress(ValueError), profiler.step("call"):
        down(DEPTH_MAX * 2 - 1)
    data = profiler.get_profile_data()
    timing = data.step_timings["down"]

    assert timing.count == timing.errors == 2 * DEPTH_MAX
    assert timing.self_ms == pytest.approx(2 * DEPTH_MAX)
    assert timing.max == 2 * DEPTH_MAX
    assert data.bottleneck == "down"


def test_a_step_may_end_twice_or_never() -> None:
    """Neither breaks the program nor the profile."""
    profiler = ResponseTimeProfiler()
    step = profiler.step("twice")
    with step:
        pass
    step.__exit__(None, None, None)
    with profiler.step("call"):
        profiler.step("never").__enter__()
    data = profiler.get_profile_data()

    assert data.calls == 2
    assert data.late == 1


def test_what_cannot_be_timed_is_refused() -> None:
    """With a word on what is right."""
    profiler = ResponseTimeProfiler()
    for name in ("", 5, None):
        with pytest.raises(BadRequest, match="name"):
            profiler.step(name)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="wait for"):
        profiler.step("a", waits_for="godot")
    with pytest.raises(BadRequest, match="Only a function"):
        profiler.profile_response_time(5)  # type: ignore[arg-type,type-var]


def test_it_may_be_used_under_several_loops() -> None:
    """Made at import time, used under two `asyncio.run` and from a thread."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    async def answer() -> None:
        with profiler.step("wait"):
            await asyncio.sleep(0)

    asyncio.run(answer())
    thread = threading.Thread(target=lambda: asyncio.run(answer()))
    thread.start()
    thread.join()
    asyncio.run(answer())

    assert profiler.get_profile_data().step_timings["wait"].count == 3


def test_exports_hold_every_step() -> None:
    """Speedscope's events nest, Chrome's events lie within their lanes, collapsed stacks add up."""
    profiler = ResponseTimeProfiler()

    async def part(name: str) -> None:
        with profiler.step(name):
            await asyncio.sleep(0.002)

    @profiler.profile_response_time
    async def answer() -> None:
        with profiler.step("a;b"):
            time.sleep(0.002)
        await asyncio.gather(part("left"), part("right"))

    asyncio.run(answer())
    traces = profiler.get_profile_data().traces

    scope = json.loads(to_speedscope(traces))
    (profile,) = scope["profiles"]
    open_frames: list[int] = []
    at = 0
    for event in profile["events"]:
        assert event["at"] >= at
        at = event["at"]
        if event["type"] == "O":
            open_frames.append(event["frame"])
        else:
            assert open_frames.pop() == event["frame"]
    assert not open_frames
    assert {frame["name"] for frame in scope["shared"]["frames"]} >= {"a;b", "left"}

    events = [event for event in json.loads(to_chrome_trace(traces))["traceEvents"] if event["ph"] == "X"]
    assert sorted(event["name"] for event in events)[:1] == ["a;b"]
    assert len(events) == 4
    lanes = {event["name"]: event["tid"] for event in events}
    assert lanes["left"] != lanes["right"]

    told = ParseDict(json.loads(to_otlp(traces, "mine")), TracesData()).resource_spans[0]
    assert told.resource.attributes[0].value.string_value == "mine"
    spans = {span.name: span for span in told.scope_spans[0].spans}
    root = next(span for span in spans.values() if not span.parent_span_id)
    assert {span.parent_span_id for span in spans.values()} == {b"", root.span_id}
    assert len({span.trace_id for span in spans.values()}) == 1
    assert set(spans) >= {"a;b", "left", "right"}
    assert abs(root.end_time_unix_nano - time.time_ns()) < 60e9
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in spans.values())

    lines = to_collapsed(traces).splitlines()
    assert any("a:b" in line for line in lines)
    assert "left" in waterfall(traces[0])


def test_a_stream_that_is_left_early_is_a_call() -> None:
    """By `break`, as when a client hangs up: it ends when nobody holds it any more."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    def numbers() -> Iterator[int]:
        yield from range(9)

    @profiler.profile_response_time
    async def words() -> AsyncIterator[str]:
        for word in "abc":
            yield word

    async def main() -> None:
        async for _ in words():
            break
        await asyncio.sleep(0)

    for _ in range(3):
        for _ in numbers():
            break
        asyncio.run(main())
    gc.collect()
    data = profiler.get_profile_data()

    assert data.calls == 6
    assert all(trace.root.first_ns for trace in data.traces)


def test_a_forgotten_stream_ends_wherever_the_collector_finds_it() -> None:
    """In the middle of taking another call, too: nothing waits for itself."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    def numbers() -> Iterator[int]:
        yield from range(9)

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(600):
            cycle: list[object] = [stream := numbers()]
            cycle.append(cycle)
            next(stream)
            del cycle, stream
            with profiler.step("other"):
                pass
    finally:
        gc.set_threshold(*before)
    gc.collect()

    assert profiler.get_profile_data().calls == 1200


def test_tasks_may_share_a_step() -> None:
    """One object, entered by tasks that overlap: each ends its own, whatever the order."""
    profiler = ResponseTimeProfiler()
    shared = profiler.step("shared")
    spans: dict[int, Span] = {}

    async def task(number: int, turns: int) -> None:
        with profiler.step("call"):
            with shared as span:
                spans[number] = span
                for _ in range(turns):
                    await asyncio.sleep(0)
                assert not span.end_ns
            assert span.end_ns
            with profiler.step("after") as after:
                assert after.depth == 1

    async def main() -> None:
        await asyncio.gather(*(task(number, turns) for number, turns in enumerate((5, 1, 9, 1, 3, 7, 2))))

    for _ in range(3):
        asyncio.run(main())

    data = profiler.get_profile_data()
    assert data.step_timings["shared"].count == 21
    assert data.late == 0
    assert shared._opened is None
    assert not profiler.shared
    ends = [spans[number].end_ns for number in (1, 3, 6, 4, 0, 5, 2)]
    assert ends == sorted(ends)


def test_threads_may_share_a_step() -> None:
    """Entered and left by eight threads as fast as they can, each finds its own span again."""
    profiler = ResponseTimeProfiler()
    shared = profiler.step("shared")

    def work(_: int) -> None:
        for _ in range(2_000):
            with profiler.step("call") as call:
                with shared as outer, shared as inner:
                    assert outer.trace is inner.trace is call.trace
                assert call.trace.root is call
                assert outer.end_ns >= inner.end_ns > 0

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)

    data = profiler.get_profile_data()
    assert data.step_timings["shared"].count == 32_000
    assert data.late == 0
    assert shared._opened is None
    assert not profiler.shared


def handing_on(function: Any) -> Any:
    """A decorator as many are: a plain function around whatever comes."""

    @functools.wraps(function)
    def wrapper(*args: object) -> object:
        return function(*args)

    return wrapper


def test_a_decorated_stream_is_timed_to_its_end(time_: Clock) -> None:
    """The decorator's own function is no generator, what it hands on is; async ones and coroutines likewise."""
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    @handing_on
    def stream() -> Iterator[int]:
        for number in range(3):
            time_.pass_ms(10)
            yield number

    @profiler.profile_response_time
    @handing_on
    async def astream() -> AsyncIterator[int]:
        for number in range(3):
            time_.pass_ms(20)
            await asyncio.sleep(0)
            yield number

    @profiler.profile_response_time
    @handing_on
    async def answer() -> int:
        time_.pass_ms(30)
        await asyncio.sleep(0)
        with profiler.step("inner"):
            time_.pass_ms(1)
        return 5

    async def main() -> list[int]:
        assert await answer() == 5
        return [number async for number in astream()]

    assert list(stream()) == asyncio.run(main()) == [0, 1, 2]
    data = profiler.get_profile_data()
    assert {name.rpartition(".")[2]: float(each) for name, each in data.response_time.items()} == {
        "stream": 30,
        "astream": 60,
        "answer": 31,
    }
    assert data.step_timings["inner"].count == 1


def test_a_decorator_that_collects_a_stream_is_a_plain_call(time_: Clock) -> None:
    """What it gives is handed on as it is; what it raises ends the call."""
    profiler = ResponseTimeProfiler()

    def collecting(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: object) -> object:
            return list(function(*args))

        return wrapper

    @profiler.profile_response_time
    @collecting
    def numbers(fails: bool) -> Iterator[int]:
        time_.pass_ms(4)
        yield 1
        if fails:
            raise ZeroDivisionError

    assert numbers(False) == [1]
    with pytest.raises(ZeroDivisionError):
        numbers(True)
    (timing,) = profiler.get_profile_data().response_time.values()
    assert (float(timing), timing.count, timing.errors) == (8, 2, 1)


def test_a_task_started_in_a_step_that_has_ended_is_what_the_call_waits_for(time_: Clock) -> None:
    """Its steps belong to the call, not to the step that is over."""
    profiler = ResponseTimeProfiler()

    async def fetch() -> None:
        await asyncio.sleep(0)
        with profiler.step("fetch"):
            time_.pass_ms(50)

    @profiler.profile_response_time
    async def answer() -> None:
        with profiler.step("start"):
            task = asyncio.create_task(fetch())
            time_.pass_ms(1)
        await task

    asyncio.run(answer())
    data = profiler.get_profile_data()

    assert data.bottleneck == "fetch"
    assert data.response_time[next(iter(data.response_time))].self_ms == 0


def test_generators_that_are_closed_in_turns_leave_no_step_behind(time_: Clock) -> None:
    """Their steps are left in the order they were entered; what comes afterwards belongs to the call."""
    profiler = ResponseTimeProfiler()

    def rows(name: str) -> Iterator[int]:
        with profiler.step(name):
            yield 1

    with profiler.step("call"):
        first, second = rows("first"), rows("second")
        next(first), next(second)
        first.close(), second.close()  # type: ignore[attr-defined]
        with profiler.step("slow"):
            time_.pass_ms(20)
    data = profiler.get_profile_data()

    assert data.calls == 1
    assert data.bottleneck == "slow"


def test_a_step_left_in_another_context_leaves_that_one_alone(time_: Clock) -> None:
    """Its own span ends; what runs there goes on, and its next step belongs to it."""
    profiler = ResponseTimeProfiler()
    step = profiler.step("elsewhere")

    with profiler.step("call") as call:
        contextvars.copy_context().run(step.__enter__)
        with profiler.step("inner") as inner:
            step.__exit__(None, None, None)
            with profiler.step("next") as following:
                pass
    data = profiler.get_profile_data()

    assert data.calls == 1
    assert [span.name for span in call.children] == ["elsewhere", "inner"]
    assert inner.children == [following]
    assert data.late == 0


@pytest.mark.parametrize("looks_between", [True, False])
def test_a_step_that_outlives_its_call_ends_with_it(time_: Clock, looks_between: bool) -> None:
    """Whenever somebody looks, beyond the bounds too."""
    profiler = ResponseTimeProfiler()

    for spans_max in (steps.SPANS_MAX, 1):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(steps, "SPANS_MAX", spans_max)
            late = profiler.step("late")
            with profiler.step("call"):
                late.__enter__()
                time_.pass_ms(10)
            if looks_between:
                profiler.get_profile_data()
            time_.pass_ms(40)
            late.__exit__(None, None, None)
    data = profiler.get_profile_data()

    assert data.step_timings["late"].max == 10
    assert data.late == (1 if looks_between else 2)


def test_a_step_shared_by_thousands_of_tasks_costs_each_the_same() -> None:
    """Leaving it finds its own span at once: no more work for many tasks than for few."""
    looked = 0

    class Counted(dict[Any, Any]):
        def items(self) -> Any:
            nonlocal looked
            looked += len(self)
            return super().items()

    profiler = ResponseTimeProfiler()
    profiler.shared = Counted()
    shared = profiler.step("shared")

    async def task() -> None:
        with profiler.step("call"), shared:
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(task() for _ in range(2_000)))

    asyncio.run(main())

    assert profiler.get_profile_data().step_timings["shared"].count == 2_000
    assert looked == 0


def test_a_call_that_never_ends_is_told() -> None:
    """What runs within it is of it, so nothing has ended: that is said."""
    profiler = ResponseTimeProfiler()
    with profiler.step("serve for ever"):
        for _ in range(3):
            with profiler.step("request"):
                pass
        assert str(profiler.get_profile_data()) == "nothing recorded; 1 call is under way"
    assert profiler.get_profile_data().under_way == 0
