"""Profiles what a program's calls spend their time on, step by step: a decorator and a `with` block.

Steps nest by context: concurrent tasks and threads are kept apart, a task that is started within a step
belongs to it. A generator's steps are its own, whoever runs between its items.
"""

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from msgspec import Struct

from slipstream.core import clock
from slipstream.core.errors import BadRequest
from slipstream.core.steps import BEYOND, KINDS, Beyond, Span, Trace
from slipstream.profiling.collection import Collection
from slipstream.profiling.profile_data import ProfileData, profile_data
from slipstream.profiling.streams import TimedAsyncGenerator, TimedGenerator, Turn, waited_for

P = ParamSpec("P")
R = TypeVar("R")

_Current = ContextVar[Span | None]


class ResponseTimeProfiler:
    """Times functions and their steps. Bounded in memory, safe under concurrency, cheap enough to stay on.

    ```python
    profiler = ResponseTimeProfiler()

    @profiler.profile_response_time
    async def answer(prompt):
        with profiler.step("search"):
            found = await search(prompt)
        with profiler.step("model", waits_for="upstream"):
            return await model.generate(prompt + found)

    print(profiler.get_profile_data())
    ```

    A step outside of a profiled function is a call of its own.
    """

    def __init__(self) -> None:
        self.current: _Current = ContextVar("slipstream-step", default=None)
        """The span that runs here."""
        self._collection = Collection()

    def profile_response_time(self, function: Callable[P, R]) -> Callable[P, R]:
        """Time every call of a function: plain, async, generator or async generator.

        A stream ends with its last item; its first one is an event of the call. Exceptions and
        cancellation pass through and are noted. Calls within a profiled call are steps of it.
        """
        if not callable(function):
            raise BadRequest(
                "Only a function can be profiled.", hint="Use it as @profiler.profile_response_time."
            )
        name = getattr(function, "__qualname__", type(function).__name__).rpartition("<locals>.")[2]
        wrap = _wrapper_of(function)
        return cast("Callable[P, R]", wrap(self, name, function))

    def step(self, name: str, *, waits_for: str = "") -> "Step":
        """Time a block: `with profiler.step("search"):`, or `async with`.

        Args:
            waits_for: what the time is spent on: cpu, queue, pool, upstream, loop or io; empty = not said.
        """
        if type(name) is not str or not name:
            raise BadRequest(f"A step's name is a text, not {name!r}.", param="name")
        if waits_for and waits_for not in KINDS:
            raise BadRequest(f"A step cannot wait for {waits_for!r}.", hint=f"One of {', '.join(KINDS[1:])}.")
        return Step(self, self.current, name, waits_for)

    def get_profile_data(self) -> ProfileData:
        """What was timed up to now: calls that have ended. An empty profile prints "nothing recorded"."""
        return profile_data(self._collection.settled())

    def reset(self) -> None:
        """Forget what was timed; calls under way are taken when they end."""
        self._collection.clear()

    # For the steps and wrappers of this module.

    def leave(self, token: Token[Span | None]) -> None:
        """Make the span before current again."""
        try:
            self.current.reset(token)
        except ValueError:
            self.current.set(None)  # left in another context than it was entered in, as generators may be

    def over(self, span: Span, error: BaseException | None) -> None:
        """A span has ended; with the root the call is over."""
        if error is not None and not isinstance(error, _ENDS):
            span.error = type(error).__name__
        if span.depth == 0:
            self._collection.add(span.trace)
        elif isinstance(span, Beyond):
            span.trace.count(span)


class Step(Struct, eq=False, gc=False):
    """One block that is timed. Entering it yields the span; entering it again times another one.

    Several tasks and threads may share it.

    Its two methods are as tight as can be: `bench/steps.py` holds them to a tenth of an OpenTelemetry span.
    """

    _profiler: ResponseTimeProfiler
    _current: _Current
    _name: str
    _kind: str
    _opened: Any = None
    """Span, token of its context (None once it has ended), and the one that was open before."""

    def __enter__(self) -> Span:
        parent = self._current.get()
        if parent is not None and not (trace := parent.trace).root.end_ns:
            span = trace.open(parent, self._name, self._kind)
        else:
            span = Trace(self._name, self._kind).root
        opened = [span, self._current.set(span), None]
        # No call and no allocation between reading and writing: no other thread comes in between.
        opened[2], self._opened = self._opened, opened
        return span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened = self._opened
        if opened is None:
            return  # ended twice: the first end counts
        end_ns = clock.monotonic_ns()
        try:
            self._current.reset(opened[1])
        except _NOT_OURS:
            opened = self._elsewhere(opened)
        if self._opened is opened:
            self._opened = opened[2]
        else:
            self._unlink(opened)
        while (newest := self._opened) is not None and newest[1] is None:
            self._opened = newest[2]
        span = opened[0]
        span.end_ns = end_ns
        if error is not None or not 0 < span.depth < BEYOND:
            self._profiler.over(span, error)

    def _elsewhere(self, newest: list[Any]) -> list[Any]:
        """The newest one was entered by another task or thread: the one of this context has ended.

        Where there is none we have left the context that we entered, as generators may: then the newest has.
        """
        older = newest[2]
        while older is not None:
            with contextlib.suppress(*_NOT_OURS):
                self._current.reset(older[1])
                return cast("list[Any]", older)
            older = older[2]
        self._current.set(None)
        return newest

    def _unlink(self, ended: list[Any]) -> None:
        """Take one from below newer ones; marked, for another thread that does the same may link it again."""
        ended[1] = None
        above = self._opened
        while above is not None and above[2] is not ended:
            above = above[2]
        if above is not None:
            above[2] = ended[2]

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


_NOT_OURS = (ValueError, TypeError, RuntimeError)
"""A context's token: of another context, taken by nobody any more, or being taken in another thread."""
_ENDS = (StopIteration, StopAsyncIteration, GeneratorExit)

Wrapper = Callable[[ResponseTimeProfiler, str, Callable[..., Any]], Callable[..., Any]]


def _wrapper_of(function: Callable[..., object]) -> Wrapper:
    """By what the innermost function is: decorators around it mostly hand on what it gives."""
    inner = inspect.unwrap(function)
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        return _handed_on
    if inspect.iscoroutinefunction(function):
        return _coroutine
    return _handed_on if inspect.iscoroutinefunction(inner) else _plain


def _plain(profiler: ResponseTimeProfiler, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*args: object, **kwargs: object) -> object:
        with Step(profiler, profiler.current, name, ""):
            return function(*args, **kwargs)

    return timed


def _coroutine(profiler: ResponseTimeProfiler, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def timed(*args: object, **kwargs: object) -> object:
        with Step(profiler, profiler.current, name, ""):
            return await function(*args, **kwargs)

    return timed


def _handed_on(profiler: ResponseTimeProfiler, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The call is over when what it returned is: a stream, or what is waited for; else at once."""

    @functools.wraps(function)
    def timed(*args: object, **kwargs: object) -> object:
        turn = Turn(profiler, name)
        with turn:
            given = function(*args, **kwargs)
        if isinstance(given, Generator):
            return TimedGenerator(turn, given)
        if isinstance(given, AsyncGenerator):
            return TimedAsyncGenerator(turn, given)
        if isinstance(given, Coroutine):
            return waited_for(turn, given)
        turn.over()
        return given

    return timed
