"""The embedded model while the server serves: its process, and another beside it when its settings change.

A process takes its orders once, when it starts. So other orders mean another process, started beside the one
that serves (the weights are mapped, not loaded twice). Only when it is ready do the workers hear of it, and
only when they have nothing left with the one before does that end. No request is lost to a change.
It does not know where settings come from, nor how workers are told.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from pathlib import Path

import psutil

from slipstream.config.settings import Local
from slipstream.core.errors import Unavailable
from slipstream.core.meters import Counters
from slipstream.models.local_process import OFF, LocalAddress, LocalProcess
from slipstream.monitoring import cgroup

DRAINING_MAX = 2
"""Processes that still finish requests; with so many, settings are not changed once more."""

LOOK_SECONDS = 0.05
"""How often it is looked whether a worker that a process waits for has died."""

_log = logging.getLogger(__name__)


class EmbeddedModel:
    """The embedded model of one server.

    Args:
        settings: its section of the settings.
        data_folder: where pulled models and digest stamps lie.
        counters: where restarts are counted.
        tell: called with the address of the process that serves, now and whenever that changes by itself.
        workers: process ids of the workers that live now.
    """

    def __init__(
        self,
        settings: Local,
        data_folder: Path,
        *,
        counters: Counters,
        tell: Callable[[LocalAddress], object],
        workers: Callable[[], set[int]],
    ) -> None:
        self._settings = settings
        self._make = functools.partial(LocalProcess, data_folder=data_folder, counters=counters)
        self._tell = tell
        self._workers = workers
        self._process = self._make(settings)
        self._beside: LocalProcess | None = None
        self._heard = asyncio.Event()  # of the one beside, or of the end
        self._is_ending = False
        self._draining: dict[asyncio.Task[None], LocalProcess] = {}
        self._process.on_change(functools.partial(self._changed, self._process))

    @property
    def address(self) -> LocalAddress:
        """Where it is served now."""
        return self._process.address

    async def start(self) -> None:
        """Begin to load; returns at once."""
        await self._process.start()

    async def prepare(self, settings: Local) -> None:
        """Have a process with other settings ready beside the one that serves; `take` lets it serve.

        Raises `Unavailable` where that cannot be; then nothing has changed.
        """
        if len(self._draining) >= DRAINING_MAX:
            raise Unavailable(
                f"The embedded model still finishes requests in {len(self._draining)} earlier processes.",
                hint="Ask again when they are answered.",
            )
        await asyncio.to_thread(_check_memory, self._process.pid, self._settings, settings)
        if self._is_ending:
            raise _ends()
        beside = self._make(settings, is_trial=True)
        self._beside = beside
        self._heard.clear()
        beside.on_change(functools.partial(self._changed, beside))
        is_ready = False
        try:
            await beside.start()
            await self._heard.wait()
            if self._is_ending:
                raise _ends()
            if beside.address.state != "ready":
                raise Unavailable(
                    f"The embedded model does not start with these settings: {beside.address.detail}.",
                    hint="It serves on with those before; the log has more.",
                )
            is_ready = True
        finally:
            if not is_ready:
                self._beside = None
                await beside.aclose()

    def take(self, settings: Local) -> LocalProcess | None:
        """Let settings hold, and the process that was prepared serve; the one before, to be drained."""
        self._settings = settings
        beside, self._beside = self._beside, None
        if beside is None:
            self._process.take(settings)
            return None
        before, self._process = self._process, beside
        before.retire()
        return before

    def drain(self, before: LocalProcess, owing: set[int], seconds: float) -> asyncio.Task[None]:
        """End a process when no living worker is left in `owing`, and after `seconds` at the latest."""
        task = asyncio.create_task(self._drain(before, owing, seconds), name="drain the embedded model")
        self._draining[task] = before
        task.add_done_callback(self._draining.pop)
        return task

    def stop(self) -> None:
        """The server ends: prepare nothing more, and give up what is being prepared."""
        self._is_ending = True
        self._heard.set()

    async def aclose(self) -> None:
        """End every process and wait until they are gone."""
        self.stop()
        for task in list(self._draining):
            task.cancel()
        processes = [self._process, *self._draining.values()]
        if self._beside is not None:
            processes.append(self._beside)
        await asyncio.gather(*(process.aclose() for process in processes))
        if self._draining:
            await asyncio.wait(list(self._draining))

    async def _drain(self, before: LocalProcess, owing: set[int], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while owing & self._workers():  # noqa: ASYNC110 (a worker may also die)
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            _log.warning("the embedded model still had requests under settings of before when time was over")
        await before.aclose()

    def _changed(self, process: LocalProcess, address: LocalAddress) -> None:
        if process is self._process:
            self._tell(address)
        elif process is self._beside and address != OFF and address.state != "loading":
            self._heard.set()


def _ends() -> Unavailable:
    return Unavailable("The server ends.", hint="It takes no other settings any more.")


def _check_memory(pid: int, before: Local, after: Local) -> None:
    """Raise `Unavailable` where a process with the settings `after` would not fit beside the one that runs.

    What it takes for itself beside the mapped weights (the cache of its slots' contexts most of all) is
    measured at the running one, and grows at most as the tokens of all contexts do. Where none runs, nothing
    is known, and it is tried.
    """
    if not pid:
        return
    try:
        memory = psutil.Process(pid).memory_info()
        free = psutil.virtual_memory().available
    except (psutil.Error, OSError):
        return
    own = memory.rss - getattr(memory, "shared", 0)
    granted = cgroup.free_memory()
    free = free if granted is None else min(free, granted)
    more = max(1.0, after.slots * after.context_tokens / (before.slots * before.context_tokens))
    needed = own * more
    if needed > free:
        raise Unavailable(
            f"The embedded model with these settings takes up to {needed / 2**20:,.0f} MiB;"
            f" {free / 2**20:,.0f} MiB are free.",
            hint="It has to fit beside the one that serves: fewer slots, a shorter context, or a restart.",
        )
