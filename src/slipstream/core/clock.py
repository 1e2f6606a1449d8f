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


_driven: dict[int, list[Callable[[], int]]] = {}
_guard = threading.Lock()
_true = monotonic_ns, wall_ns


def _monotonic_or_driven() -> int:
    sources = _driven.get(threading.get_ident())
    return sources[-1]() if sources else _true[0]()


def _wall_or_driven() -> int:
    sources = _driven.get(threading.get_ident())
    return sources[-1]() if sources else _true[1]()


@contextlib.contextmanager
def driven_by(source: Callable[[], int]) -> Iterator[None]:
    """Let `source` (nanoseconds) stand in for both clocks of the calling thread, for tests and replays.

    Other threads keep the true time, or what drives theirs: what they measure meanwhile is real.
    """
    global monotonic_ns, wall_ns, _true
    me = threading.get_ident()
    with _guard:
        if not _driven:
            _true = monotonic_ns, wall_ns
            monotonic_ns, wall_ns = _monotonic_or_driven, _wall_or_driven
        sources = _driven.setdefault(me, [])
        sources.append(source)
    try:
        yield
    finally:
        with _guard:  # whoever ends, in whatever order: the last one gives the true clocks back
            sources.remove(source)
            if not sources and _driven.get(me) is sources:
                del _driven[me]
            if not _driven:
                monotonic_ns, wall_ns = _true
