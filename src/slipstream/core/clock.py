"""Where time comes from: monotonic inside, wall clock for people and storage only.

Nothing else reads a clock, so that a test or a prediction can drive the real code on virtual time.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

monotonic_ns: Callable[[], int] = time.perf_counter_ns
wall_ns: Callable[[], int] = time.time_ns
thread_cpu_ns: Callable[[], int] = time.thread_time_ns
"""CPU that the calling thread has used; costs 0.7 us, so it is not for every request."""


@contextlib.contextmanager
def driven_by(source: Callable[[], int]) -> Iterator[None]:
    """Let `source` (nanoseconds) stand in for both clocks of the calling thread, for tests and replays.

    One at a time in a process. Other threads keep the true time: what they measure meanwhile is real.
    """
    global monotonic_ns, wall_ns
    before = true_monotonic_ns, true_wall_ns = monotonic_ns, wall_ns
    driven = threading.get_ident()

    def drive(true_ns: Callable[[], int]) -> Callable[[], int]:
        return lambda: source() if threading.get_ident() == driven else true_ns()

    monotonic_ns, wall_ns = drive(true_monotonic_ns), drive(true_wall_ns)
    try:
        yield
    finally:
        monotonic_ns, wall_ns = before
