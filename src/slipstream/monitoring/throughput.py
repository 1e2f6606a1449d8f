"""How many requests a second get done: counted where they are done, over a window and in all.

`WindowedRate` is the arithmetic, told the time; `ThroughputMonitor` is what a script puts around its loop.
"""

import sys
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

from slipstream.core import clock
from slipstream.monitoring.performance_monitor import PerformanceMonitor

T = TypeVar("T")

SLOTS = 100
"""Parts of the window that are counted apart: the window is right to one of them."""


class WindowedRate:
    """Events a second over the last `window_ns`, or since `begin` where that is later.

    The oldest part of the window is forgotten as a whole, so a rate covers 99 to 100 % of it. Told the time,
    which may stand still or run backwards without harm.
    """

    def __init__(self, window_ns: int) -> None:
        assert window_ns >= SLOTS, "a window has a length"
        self._slot_ns = window_ns // SLOTS
        self._counts = [0] * SLOTS
        self._slot = 0
        self._sum = 0
        self._began_ns: int | None = None

    def begin(self, now_ns: int) -> None:
        """The watch begins; later calls change nothing."""
        if self._began_ns is None:
            self._began_ns = now_ns
            self._slot = now_ns // self._slot_ns

    def add(self, now_ns: int, count: int = 1) -> None:
        """So many events are done."""
        self.begin(now_ns)
        self._advance(now_ns)
        self._counts[self._slot % SLOTS] += count
        self._sum += count

    def rate(self, now_ns: int) -> float | None:
        """Events a second; None before anything began, and while no time has passed."""
        if self._began_ns is None:
            return None
        self._advance(now_ns)
        covered_ns = min(now_ns - self._began_ns, now_ns - (self._slot - SLOTS + 1) * self._slot_ns)
        return self._sum / (covered_ns / 1e9) if covered_ns > 0 else None

    def _advance(self, now_ns: int) -> None:
        slot = now_ns // self._slot_ns
        for each in range(self._slot + 1, min(slot, self._slot + SLOTS) + 1):
            self._sum -= self._counts[each % SLOTS]
            self._counts[each % SLOTS] = 0
        self._slot = max(self._slot, slot)


class ThroughputMonitor:
    """Counts requests as they get done. Any number of threads and event loops may share one.

    One that has tracked nothing itself tells the live server's throughput, where one lives.

    Args:
        window_seconds: what `current` looks back over.
        print_every: print the throughput after so many requests; 0 prints nothing.
        server: URL or process id of the live server that is meant, where there are several.

    Example:
        monitor = ThroughputMonitor(print_every=100)
        async for request in monitor.watch(get_requests()):
            await process_request(request)
        print(monitor.current, monitor.total, monitor.average)
    """

    def __init__(self, window_seconds: float = 60.0, *, print_every: int = 0, server: str = "") -> None:
        if not window_seconds >= 1e-6:
            raise ValueError("window_seconds must be more than 0")
        if print_every < 0:
            raise ValueError("print_every must not be negative")
        self._rate = WindowedRate(int(window_seconds * 1e9))
        self._print_every = print_every
        self._lock = threading.Lock()
        self._total = self._failed = self._running = 0
        self._began_ns: int | None = None
        self._last_ns = 0
        self._served = PerformanceMonitor(server=server)

    @property
    def current(self) -> float | None:
        """Requests a second over the window, or since the first began; None before any time has passed.

        While nothing was tracked: those of the live server over the last minute, None without one. Raises
        `ConfigurationError` then where several live and none was named.
        """
        with self._lock:
            if self._began_ns is not None:
                return self._rate.rate(clock.monotonic_ns())
        return self._served.get_throughput()

    @property
    def average(self) -> float | None:
        """Requests a second from the first one's begin to the last one's end; None before that."""
        with self._lock:
            if self._began_ns is None or self._last_ns <= self._began_ns:
                return None
            return self._total / ((self._last_ns - self._began_ns) / 1e9)

    @property
    def total(self) -> int:
        """Requests that are done, failed ones included."""
        return self._total

    @property
    def failed(self) -> int:
        """Requests among them that raised."""
        return self._failed

    @property
    def running(self) -> int:
        """Requests that are under way."""
        return self._running

    def track(self) -> "Tracked":
        """Count what is done inside: `async with monitor.track(): …`, or `with`. An error passes through."""
        return Tracked(self)

    def watch(self, requests: "AsyncIterable[T] | Iterable[T]") -> "Watched[T]":
        """Iterate over requests and count each once the loop asks for the next: `async for`, or `for`."""
        return Watched(self, requests)

    def begin(self) -> None:
        """A request begins."""
        now_ns = clock.monotonic_ns()
        with self._lock:
            self._running += 1
            self._rate.begin(now_ns)
            if self._began_ns is None:
                self._began_ns = now_ns

    def end(self, *, failed: bool = False) -> None:
        """A request that has begun is done."""
        now_ns = clock.monotonic_ns()
        with self._lock:
            self._running -= 1
            self._total += 1
            self._failed += failed
            self._last_ns = max(self._last_ns, now_ns)
            self._rate.add(now_ns)
            rate = self._rate.rate(now_ns)
            due = self._print_every and self._total % self._print_every == 0
        if due and rate is not None:
            sys.stdout.write(f"Current throughput: {rate:.2f} req/s\n")

    def abandon(self) -> None:
        """A request that has begun was cancelled: it is not counted."""
        with self._lock:
            self._running -= 1

    def __repr__(self) -> str:
        current = self.current if self._began_ns is not None else None
        rate = "nothing tracked yet" if current is None else f"{current:.2f} req/s"
        return f"<ThroughputMonitor: {rate}, {self._total} done>"


class Tracked:
    """One stretch in which a request is done; a context of either kind."""

    def __init__(self, monitor: ThroughputMonitor) -> None:
        self._monitor = monitor

    def __enter__(self) -> None:
        self._monitor.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self._monitor.abandon()  # cancelled or interrupted: neither done nor failed
        else:
            self._monitor.end(failed=error is not None)

    async def __aenter__(self) -> None:
        self._monitor.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class Watched(Generic[T]):
    """Requests as they come, each under way until the next is asked for; one left early is not done."""

    def __init__(self, monitor: ThroughputMonitor, requests: AsyncIterable[T] | Iterable[T]) -> None:
        self._monitor = monitor
        self._requests = requests

    async def __aiter__(self) -> AsyncIterator[T]:
        if isinstance(self._requests, AsyncIterable):
            async for request in self._requests:
                with self._monitor.track():
                    yield request
        else:
            for request in self._requests:
                with self._monitor.track():
                    yield request

    def __iter__(self) -> Iterator[T]:
        if isinstance(self._requests, AsyncIterable):
            raise TypeError("these requests come asynchronously; use `async for`")
        for request in self._requests:
            with self._monitor.track():
                yield request
