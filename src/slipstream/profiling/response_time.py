"""Profiles what a program's calls spend their time on, step by step: a decorator and a `with` block.

Steps nest by context: concurrent tasks and threads are kept apart, a task that is started within a step
belongs to it. A generator's steps are its own, whoever runs between its items.
"""

import contextlib
import functools
import inspect
import itertools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from msgspec import Struct

from slipstream.core import clock
from slipstream.core.errors import BadRequest
from slipstream.core.steps import BEYOND, KINDS, Beyond, Span, Trace
from slipstream.profiling.collection import Collection
from slipstream.profiling.forks import begin_anew
from slipstream.profiling.profile_data import ProfileData, profile_data
from slipstream.profiling.streams import TimedAsyncGenerator, TimedGenerator, Turn, waited_for

P = ParamSpec("P")
R = TypeVar("R")

_Current = ContextVar[Span | None]
_Opened = tuple[Span, Token[Span | None]]
SHARED_MAX = 100_000
"""Spans of shared steps that may be open at once; beyond it the oldest is taken for one that never ends."""


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
        self._begun, self._count = itertools.count(1), 0
        self.shared: dict[Span, tuple[Step, _Opened]] = {}
        """What steps time that were entered again before they were left, as by several tasks."""
        begin_anew(self)

    def forked(self) -> None:
        """In a forked child the calls that were under way are the parent's."""
        self.current.set(None)
        self.shared.clear()
        self._begun, self._count = itertools.count(1), 0

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
        if not isinstance(name, str) or not name:
            raise BadRequest(f"A step's name is a text, not {name!r}.", param="name")
        if waits_for and waits_for not in KINDS:
            raise BadRequest(f"A step cannot wait for {waits_for!r}.", hint=f"One of {', '.join(KINDS[1:])}.")
        return Step(self, self.current, name, waits_for)

    def get_profile_data(self) -> ProfileData:
        """What was timed up to now: calls that have ended. An empty profile prints "nothing recorded"."""
        return profile_data(self._collection.settled(), begun=self._count)

    def reset(self) -> None:
        """Forget what was timed; calls under way are taken when they end."""
        self._collection.clear()
        self._begun, self._count = itertools.count(1), 0

    # For the steps and wrappers of this module.

    def begun(self, name: str, kind: str) -> Span:
        """The root of a new call."""
        self._count = next(self._begun)
        return Trace(name, kind).root

    def leave(self, token: Token[Span | None]) -> None:
        """Make the span before current again; in another context than it was entered in nothing is ours."""
        with contextlib.suppress(ValueError):
            self.current.reset(token)

    def share(self, step: "Step", opened: "_Opened") -> None:
        """Keep what a step times beside something else."""
        if len(self.shared) >= SHARED_MAX:
            self.shared.pop(next(iter(self.shared)), None)
        self.shared[opened[0]] = step, opened

    def late(self, span: Span) -> None:
        """It has outlived its call, and ends with it."""
        if not span.end_ns:
            span.end_ns = max(span.trace.root.end_ns, span.start_ns)
            span.trace.late += 1
            if isinstance(span, Beyond):
                span.trace.count(span)

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
    _opened: "_Opened | None" = None
    """The span that it times, with its token of the context; further ones are in `profiler.shared`."""

    def __enter__(self) -> Span:
        parent = self._current.get()
        if parent is not None and not (trace := parent.trace).root.end_ns:
            # In a task that outlived the step it began in, or after generators that were closed in turns.
            span = trace.open(trace.root if parent.end_ns else parent, self._name, self._kind)
        else:
            span = self._profiler.begun(self._name, self._kind)
        opened = span, self._current.set(span)
        if self._opened is None:  # nothing is called up to the write: no other thread comes in between
            self._opened = opened
        else:
            self._profiler.share(self, opened)
        return span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_ns = clock.monotonic_ns()
        opened = self._opened
        if opened is not None and opened[0] is self._current.get():
            self._opened = None
        else:
            opened = self._elsewhere()
            if opened is None:
                return  # ended twice: the first end counts
        span, token = opened
        try:  # noqa: SIM105 (that is dear)
            self._current.reset(token)
        except (ValueError, RuntimeError):
            pass  # not entered here, or tried already
        if span.trace.root.end_ns:
            self._profiler.late(span)
            return
        span.end_ns = end_ns
        if error is not None or not 0 < span.depth < BEYOND:
            self._profiler.over(span, error)

    def _elsewhere(self) -> "_Opened | None":
        """What was entered here, where others have entered it too, or something within it was never left.

        Where nothing was we have left the context that we entered, as generators may: then it is ours alone.
        """
        shared, span, mine = self._profiler.shared, self._current.get(), self._opened
        if span is not None and span in shared and shared[span][0] is self:
            return shared.pop(span)[1]
        if mine is not None and self._is_of_here(mine):
            self._opened = None
            return mine
        for span, (step, opened) in list(shared.items()):
            if step is self and self._is_of_here(opened):
                del shared[span]
                return opened
        self._opened = None
        return mine

    def _is_of_here(self, opened: "_Opened") -> bool:
        try:
            self._current.reset(opened[1])
        except (ValueError, RuntimeError):
            return False
        return True

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


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
