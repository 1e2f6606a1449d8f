"""The row of an event loop in the USE table: CPU of its thread, how late it ran, how often it stood."""

from slipstream.core import clock
from slipstream.core.use import UseRow


class LoopUse:
    """Of one loop, from one question to the next; for its own thread."""

    __slots__ = ("_at_ns", "_cpu_ns", "_worst_ns")

    def __init__(self) -> None:
        self._worst_ns = 0
        self._at_ns, self._cpu_ns = clock.monotonic_ns(), clock.thread_cpu_ns()

    def late(self, late_ns: int) -> None:
        """A heartbeat came so late."""
        self._worst_ns = max(self._worst_ns, late_ns)

    def row(self, stalls: int) -> UseRow:
        """What to say; `stalls` count as errors."""
        now_ns, cpu_ns = clock.monotonic_ns(), clock.thread_cpu_ns()
        used = (cpu_ns - self._cpu_ns) / max(1, now_ns - self._at_ns)
        late_ms, self._worst_ns = self._worst_ns / 1e6, 0
        self._at_ns, self._cpu_ns = now_ns, cpu_ns
        return UseRow("event loop", min(1.0, max(0.0, used)), late_ms, "ms late", stalls, "1 core")
