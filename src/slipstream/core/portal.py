"""One event loop in a background thread, for callers that have none or many.

What lives on it (connections, the embedded model) is shared by every thread and every event loop of the
process, so an object may be used under two `asyncio.run` and from a thread alike. Knows nothing of what runs.
"""

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CLOSE_SECONDS = 10.0
"""How long the interpreter's exit waits for what runs on the portal to end."""


class Portal:
    """Starts its thread when first used; `on_exit` callbacks run on it before the interpreter ends."""

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):  # the thread stays behind in the parent
            os.register_at_fork(after_in_child=self._forget)

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the portal's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def call(self, work: Coroutine[Any, Any, T], *, timeout: float | None = None) -> T:
        """Run a coroutine and wait for it in this thread; interrupting the wait cancels it."""
        future = self.submit(work)
        try:
            return future.result(timeout)
        finally:
            future.cancel()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and await it on the caller's loop; cancellation passes through."""
        return await asyncio.wrap_future(self.submit(work))

    async def iterate(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Iterate on the caller's loop over a generator that runs on the portal's.

        Whoever is cancelled here returns once the generator has unwound there.
        """
        turn = asyncio.Lock()  # taken on the portal's loop alone
        try:
            while True:
                try:
                    yield await self.run(_next(items, turn))
                except StopAsyncIteration:
                    return
        finally:
            # Shielded: whoever is cancelled once more leaves, and the generator unwinds all the same.
            await asyncio.shield(asyncio.wrap_future(self.submit(_close(items, turn))))

    def before_exit(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have `work` awaited on the portal's loop when the interpreter ends."""
        self._on_exit.append(work)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_exit: list[Callable[[], Awaitable[None]]] = []

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=_serve, args=(loop,), name="slipstream-portal", daemon=True).start()
                atexit.register(self._close)
                self._loop = loop
            return self._loop

    def _close(self) -> None:
        loop, self._loop = self._loop, None
        if loop is None or not loop.is_running():
            return
        future = asyncio.run_coroutine_threadsafe(self._last(), loop)
        concurrent.futures.wait([future], timeout=CLOSE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)

    async def _last(self) -> None:
        for work in reversed(self._on_exit):
            await work()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()


async def _next(items: AsyncGenerator[T, None], turn: asyncio.Lock) -> T:
    async with turn:
        return await anext(items)


async def _close(items: AsyncGenerator[T, None], turn: asyncio.Lock) -> None:
    async with turn:  # a cancelled `_next` unwinds first: a generator that runs cannot be closed
        await items.aclose()


PORTAL = Portal()
"""The one portal of this process."""
