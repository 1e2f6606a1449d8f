"""A server process looks at itself for some seconds: its stacks, or its memory. One look at a time."""

import asyncio
import logging
import os
from collections.abc import Callable

from slipstream.core.errors import SlipstreamError
from slipstream.profiling.cpu import CpuProfiler
from slipstream.profiling.memory import memory_profiler
from slipstream.profiling.packed import pack
from slipstream.server.messages import Profile, Profiled

BUSY = "another profile runs in this process"
_log = logging.getLogger(__name__)


class SelfProfile:
    """Does what a `Profile` asks. The task is its own; whoever asked is told when it is done.

    Args:
        tell: what to do with the answer; False where it found no room.
    """

    def __init__(self, tell: Callable[[Profiled], bool]) -> None:
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._number = 0
        self._is_wanted = False
        self._looking = asyncio.Lock()

    def begin(self, asked: Profile) -> None:
        """Start; where one runs already that is the answer. One that was ended is waited for first."""
        if self._is_wanted and self._task is not None and not self._task.done():
            self._tell(Profiled(asked.number, os.getpid(), error=BUSY))
            return
        name = f"{asked.what} profile"
        self._number, self._is_wanted = asked.number, True
        self._task = asyncio.get_running_loop().create_task(self._run(asked), name=name)

    def end(self, number: int) -> None:
        """Nobody waits for that answer: look no longer, and give none."""
        if number == self._number and self._task is not None:
            self._is_wanted = False
            self._task.cancel()

    def cancel(self) -> None:
        """The process ends: nobody waits for the answer."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, asked: Profile) -> None:
        async with self._looking:
            seen = await looked(asked)
        if not self._tell(seen):
            self._tell(Profiled(asked.number, os.getpid(), error="the profile is too large to be sent"))


async def looked(asked: Profile) -> Profiled:
    """Look at this process; what fails is told as an error."""
    pid = os.getpid()
    try:
        if asked.what == "cpu":
            seen = await CpuProfiler(asked.hertz).aprofile_cpu(asked.seconds)
            return Profiled(asked.number, pid, cpu=pack(seen, asked.stacks))
        memory = await memory_profiler.aprofile_memory(asked.seconds, by=asked.by)
        return Profiled(asked.number, pid, memory=memory)
    except SlipstreamError as error:
        return Profiled(asked.number, pid, error=str(error))
    except (OSError, MemoryError) as error:
        _log.warning("a %s profile failed: %s", asked.what, error)
        return Profiled(asked.number, pid, error=f"{type(error).__name__}: {error}")
