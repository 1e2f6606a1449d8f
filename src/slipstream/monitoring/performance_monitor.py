"""`PerformanceMonitor`: measure a call, and ask what the assistant does right now.

Beside a live server it tells the server's numbers and adds its own to them; alone it tells those of its
own process. Nothing is opened before the first use.
"""

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar, overload

from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.core.readings import Readings
from slipstream.monitoring import values
from slipstream.monitoring.attached import Attachment, ask
from slipstream.monitoring.calls import Calls
from slipstream.monitoring.own_process import OWN_PROCESS, on_a_loop
from slipstream.monitoring.summary import Summary, summarize
from slipstream.monitoring.values import (
    DiskIO,
    ModelLatency,
    NetworkIO,
    Percent,
    ResponseTime,
    TokenUsage,
)

T = TypeVar("T")

KEPT_NS = 500_000_000
"""How long one answer of the server serves all getters."""

_log = logging.getLogger(__name__)


class PerformanceMonitor:
    """What the assistant does, in numbers. One object may be used from any thread and event loop.

    Every getter returns None for what was not seen yet. Outside an event loop the first one after a
    measured call waits, at most a second, until that call is in the numbers; on a loop none waits, and
    the numbers are up to a second old (`await asummary()` waits).

    Args:
        server: URL or process id of the live server that is meant, where there are several.

    Raises `ConfigurationError` in every getter where several servers live and none is named.

    Example:
        monitor = PerformanceMonitor()
        took = monitor.measure_response_time(lambda: generate_response("Hello"))
        print(took, took.result, monitor.get_model_latency())
    """

    def __init__(self, *, server: str = "") -> None:
        self._attachment = Attachment(server)
        self._summary: Summary | None = None
        self._asked_ns = 0
        self._stale = True

    @overload
    def measure_response_time(  # type: ignore[overload-overlap]
        self, function: Callable[[], Coroutine[Any, Any, T]]
    ) -> "ResponseTime[T] | Coroutine[Any, Any, ResponseTime[T]]": ...
    @overload
    def measure_response_time(self, function: Callable[[], T]) -> ResponseTime[T]: ...
    def measure_response_time(self, function: Callable[[], Any]) -> Any:
        """Run `function`; how long it took in ms, a float that carries what it returned in `.result`.

        If it returns an awaitable: on a running event loop that which is to be awaited is returned, else
        it is run to its end. An exception is counted and raised again. Adds to the series
        `response_time{source="app"}`; a call that was cancelled or interrupted is not counted.
        """
        call = _Call(self._attachment.calls(), function)  # first: what is wrong here must not lose a result
        self._stale = True
        with call:
            result = function()
        if inspect.isawaitable(result):
            measured = self._measure(result, call)
            return measured if on_a_loop() else asyncio.run(measured)
        self._stale = True
        return values.response_time(call.end(), result)

    def get_cpu_usage(self) -> Percent | None:
        """CPU of the server's process tree: percent of what it may use, average of 10 s; with `.host`."""
        return values.percent(self.summary().cpu)

    def get_memory_usage(self) -> Percent | None:
        """Memory of the server's process tree now: percent of what it may use; with `.host`."""
        return values.percent(self.summary().memory)

    def get_disk_io(self) -> DiskIO | None:
        """Bytes that the server's process tree reads and writes a second (10 s) and in all; with `.host`."""
        return values.disk_io(self.summary())

    def get_network_io(self) -> NetworkIO | None:
        """Bytes that the machine receives and sends a second (10 s) and in all, loopback left out."""
        return values.network_io(self.summary())

    def get_token_usage(self) -> TokenUsage | None:
        """Tokens in, out and cached since the server began, their cost in US dollars, and by model."""
        return values.token_usage(self.summary())

    def get_model_latency(self) -> ModelLatency | None:
        """p95 of the answers of the last minute in ms; with `.p50`, `.p99`, `.count`, `.by_model`."""
        return values.model_latency(self.summary())

    def get_cache_hit_rate(self) -> float | None:
        """Share of cache lookups that hit, 0..1, over 5 minutes; None without lookups."""
        return self.summary().cache_hit_rate

    def get_throughput(self) -> float | None:
        """Requests that ended, a second, over the last minute."""
        return self.summary().throughput

    def get_error_rate(self) -> float | None:
        """Failed requests in percent of all, over the last 5 minutes; None without requests."""
        return self.summary().error_rate

    def summary(self) -> Summary:
        """Everything at a glance; what the getters read."""
        now_ns = clock.monotonic_ns()
        if self._summary is None or self._stale or now_ns - self._asked_ns > KEPT_NS:
            fresh = self._stale and not on_a_loop()
            self._keep(self._read(fresh=fresh), fresh=fresh)
        assert self._summary is not None
        return self._summary

    async def asummary(self) -> Summary:
        """The same for an event loop: waits, at most a second, until all measured calls are in it."""
        server = self._attachment.server()
        if server is None:
            question = functools.partial(OWN_PROCESS.read, _alone, fresh=self._stale)
            seen = await asyncio.to_thread(question)
        else:
            seen = await self._attachment.summary(server, fresh=self._stale)
        self._keep(seen, fresh=True)
        return seen

    def _read(self, *, fresh: bool) -> Summary:
        server = self._attachment.server()
        try:
            if server is None:
                return OWN_PROCESS.read(_alone, fresh=fresh)
            return ask(self._attachment, server, fresh=fresh)
        except ConfigurationError:
            raise
        except (SlipstreamError, TimeoutError) as error:
            _log.warning("the metrics cannot be read: %s", error)
            return Summary(clock.wall_ns(), "nowhere")

    def _keep(self, seen: Summary, *, fresh: bool) -> None:
        self._summary = seen
        self._asked_ns = clock.monotonic_ns()
        if fresh:
            self._stale = False

    async def _measure(self, result: Awaitable[T], call: "_Call") -> ResponseTime[T]:
        with call:
            value = await result
        self._stale = True
        return values.response_time(call.end(), value)


class _Call:
    """A call that is under way and where it will be written down; what its block raises counts as failed."""

    def __init__(self, calls: Calls, function: Callable[[], object]) -> None:
        self._calls = calls
        self._name = getattr(function, "__qualname__", type(function).__qualname__)
        self._begun_ns = clock.monotonic_ns()

    def __enter__(self) -> None:
        """It is under way since it was made."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.end(failed=True)

    def end(self, *, failed: bool = False) -> float:
        """It has ended; the milliseconds that it took."""
        milliseconds = (clock.monotonic_ns() - self._begun_ns) / 1e6
        self._calls.add(self._name, milliseconds, failed=failed)
        return milliseconds


def _alone(readings: Readings) -> Summary:
    return summarize(readings, "process")
