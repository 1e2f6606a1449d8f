"""Where the CPU time of this process goes: while asked for, all stacks are looked at 100 times a second."""

import asyncio
import threading
import time

from slipstream.core.errors import BadRequest
from slipstream.profiling.cpu_profile import CpuProfile
from slipstream.profiling.cpu_sampler import Sampler, running_loops
from slipstream.profiling.forks import begin_anew

HERTZ_MAX = 1_000
SECONDS_MAX = 3_600.0


class CpuProfiler:
    """Samples the CPU time of every thread of this process while it is on.

    ```python
    cpu_profiler.profile_cpu()              # begins to sample; later: what was sampled since the last call
    print(cpu_profiler.profile_cpu(seconds=5))
    ```

    Args:
        hertz: looks a second. What they cost is told in every profile (`own_seconds`); for a worker of the
            server `bench/watching.py` measures it.
    """

    def __init__(self, hertz: int = 100) -> None:
        if not 1 <= hertz <= HERTZ_MAX:
            raise BadRequest(f"A profiler looks 1 to {HERTZ_MAX} times a second, not {hertz}.", param="hertz")
        self._period_seconds = 1.0 / hertz
        self.forked()
        begin_anew(self)

    def forked(self) -> None:
        """In a forked child nobody looks yet."""
        self._lock = threading.Lock()
        self._sampler: Sampler | None = None

    def profile_cpu(self, seconds: float | None = None) -> CpuProfile:
        """What the CPU time went to.

        Args:
            seconds: look for so long and return then; a running event loop in this thread would stand
                still, so `await aprofile_cpu(seconds)` there. None: what was seen since the last call, at
                once; the first call begins to look and returns an empty profile.

        Raises `ConfigurationError` where the system does not tell the CPU time of threads, `Unavailable`
        where it allows no thread more.
        """
        if seconds is None:
            return self._since_last()
        _check(seconds)
        if _is_loop_running():
            raise BadRequest(
                "profile_cpu(seconds=…) would stop the event loop for that long.",
                hint="`await cpu_profiler.aprofile_cpu(seconds)`, or leave `seconds` out.",
            )
        window = Sampler(self._period_seconds)
        time.sleep(seconds)
        return window.end()

    async def aprofile_cpu(self, seconds: float) -> CpuProfile:
        """The same for coroutines: the loop goes on meanwhile, and samples name its tasks."""
        _check(seconds)
        window = Sampler(self._period_seconds)
        try:
            await asyncio.sleep(seconds)
        finally:
            profile = window.end()
        return profile

    def stop(self) -> CpuProfile:
        """Look no more; what was seen since the last call."""
        with self._lock:
            sampler, self._sampler = self._sampler, None
        return sampler.end() if sampler is not None else CpuProfile((), 0.0, 0, 0.0)

    def _since_last(self) -> CpuProfile:
        with self._lock:
            if self._sampler is None or not self._sampler.is_alive():
                self._sampler = Sampler(self._period_seconds)
                return CpuProfile((), 0.0, 0, 0.0)
            return self._sampler.take()


def _is_loop_running() -> bool:
    return bool(running_loops())


def _check(seconds: float) -> None:
    if not 0 < seconds <= SECONDS_MAX:
        raise BadRequest(f"A profile takes up to {SECONDS_MAX:g} seconds, not {seconds!r}.", param="seconds")


cpu_profiler = CpuProfiler()
"""The profiler of this process; samples nothing before its first call."""
