"""What sending cost this machine: CPU of a worker, pauses of its garbage collector, time its host took."""

import gc
import math
import os
import sys
from pathlib import Path

from slipstream.core import clock


class CpuShare:
    """CPU time over wall time between two moments of this process."""

    def __init__(self) -> None:
        self._begun = self._cpu = 0.0
        self._share = math.nan

    def begin(self, now: int) -> None:
        """Count from now."""
        self._begun, self._cpu = now / 1e9, _cpu_seconds()
        self._share = math.nan

    def end(self, now: int) -> None:
        """Count no further; a later call changes nothing."""
        if math.isnan(self._share) and self._begun:
            wall = now / 1e9 - self._begun
            self._share = (_cpu_seconds() - self._cpu) / wall if wall > 0 else math.nan

    @property
    def share(self) -> float:
        """1 = one core all the time; NaN until the end."""
        return self._share


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


class GcPauses:
    """How often, how long at most and how long in all the garbage collector stopped this process."""

    def __init__(self) -> None:
        self.count = self.max_ns = self.total_ns = 0
        self._since = 0
        gc.callbacks.append(self._on_collection)

    def reset(self) -> None:
        """Count from now."""
        self.count = self.max_ns = self.total_ns = 0

    def close(self) -> None:
        """Look no longer."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        now = clock.monotonic_ns()
        if phase == "start":
            self._since = now
            return
        pause = now - self._since
        self.count += 1
        self.total_ns += pause
        self.max_ns = max(self.max_ns, pause)


class Steal:
    """Share of the machine's CPU time that its host gave to others, since this was made."""

    def __init__(self) -> None:
        self._before = _ticks()

    @property
    def share(self) -> float:
        """0 to 1; NaN where the system does not say."""
        before, after = self._before, _ticks()
        if before is None or after is None or after[1] <= before[1]:
            return math.nan
        return (after[0] - before[0]) / (after[1] - before[1])


class Busy:
    """Share of the machine's CPU time that was used, by whomever, since this was made."""

    def __init__(self) -> None:
        self._before = _fields()

    @property
    def share(self) -> float:
        """0 to 1; NaN where the system does not say."""
        before, after = self._before, _fields()
        if before is None or after is None or sum(after) <= sum(before):
            return math.nan
        idle = after[3] + after[4] - before[3] - before[4]
        return 1 - idle / (sum(after) - sum(before))


def _ticks() -> tuple[int, int] | None:
    """Stolen and all ticks of all cores."""
    fields = _fields()
    return None if fields is None else (fields[7], sum(fields))


def _fields() -> list[int] | None:
    """Ticks of all cores: user, nice, system, idle, iowait, irq, softirq, steal."""
    if sys.platform != "linux":
        return None
    try:
        fields = Path("/proc/stat").read_bytes().partition(b"\n")[0].split()[1:9]
        numbers = [int(each) for each in fields]
    except (OSError, ValueError):
        return None
    return numbers if len(numbers) == 8 else None
