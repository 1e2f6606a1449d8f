"""What is timed beyond its call: streams to their last item, and what is waited for."""

from collections.abc import AsyncGenerator, Coroutine, Generator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Protocol

from slipstream.core import clock
from slipstream.core.steps import Span


class Takes(Protocol):
    """The profiler, as far as it is needed here."""

    current: ContextVar[Span | None]

    def begun(self, name: str, kind: str) -> Span:
        """The root of a new call."""
        ...

    def late(self, span: Span) -> None:
        """A span has outlived its call."""

    def leave(self, token: Token[Span | None]) -> None:
        """Make the span before current again."""

    def over(self, span: Span, error: BaseException | None) -> None:
        """A span has ended."""


class Turn:
    """A generator's turn: its span and the steps it left open are current only while it runs itself."""

    __slots__ = ("_inner", "_profiler", "_span", "_token")
    _inner: Span | None

    def __init__(self, profiler: Takes, name: str) -> None:
        self._profiler = profiler
        parent = profiler.current.get()
        if parent is None or parent.trace.root.end_ns:
            self._span = profiler.begun(name, "")
        else:
            trace = parent.trace
            self._span = trace.open(trace.root if parent.end_ns else parent, name, "")
        self._inner = self._span

    def __enter__(self) -> None:
        self._token = self._profiler.current.set(self._inner)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner = self._profiler.current.get()
        self._profiler.leave(self._token)
        if error is not None:
            self._end(error)

    def came(self) -> None:
        """An item: the first one is an event."""
        self._span.event()

    def over(self) -> None:
        """Nobody wants another item."""
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        span = self._span
        if span.trace.root.end_ns:
            self._profiler.late(span)
        elif not span.end_ns:
            span.end_ns = clock.monotonic_ns()
            self._profiler.over(span, error)


class TimedGenerator(Generator[Any, Any, Any]):
    """A generator that is timed from its call to its last item."""

    def __init__(self, turn: Turn, items: Generator[Any, Any, Any]) -> None:
        self._turn = turn
        self._items = items

    def send(self, value: Any) -> Any:
        """Go on to the next item."""
        with self._turn:
            item = self._items.send(value)
        self._turn.came()
        return item

    def throw(self, *error: Any) -> Any:
        """Raise within the generator."""
        with self._turn:
            item = self._items.throw(*error)
        self._turn.came()
        return item

    def close(self) -> None:
        """Ask for no more items."""
        with self._turn:
            self._items.close()
        self._turn.over()

    def __del__(self) -> None:
        """Left by `break`: nobody closes it, it is only forgotten. So it ends now."""
        self._turn.over()


class TimedAsyncGenerator(AsyncGenerator[Any, Any]):
    """An async generator that is timed from its call to its last item."""

    def __init__(self, turn: Turn, items: AsyncGenerator[Any, Any]) -> None:
        self._turn = turn
        self._items = items

    async def asend(self, value: Any) -> Any:
        """Go on to the next item."""
        with self._turn:
            item = await self._items.asend(value)
        self._turn.came()
        return item

    async def athrow(self, *error: Any) -> Any:
        """Raise within the generator."""
        with self._turn:
            item = await self._items.athrow(*error)
        self._turn.came()
        return item

    async def aclose(self) -> None:
        """Ask for no more items."""
        with self._turn:
            await self._items.aclose()
        self._turn.over()

    def __del__(self) -> None:
        """Left by `break`, as by a client that hangs up; its own generator is closed by the loop."""
        self._turn.over()


async def waited_for(turn: Turn, given: Coroutine[Any, Any, Any]) -> object:
    """What a coroutine gives; it is timed while it runs."""
    with turn:
        result = await given
    turn.over()
    return result
