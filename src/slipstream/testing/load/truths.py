"""What latencies must be where theory knows them: a server that stands still for a while, a queue M/D/1."""

import numpy as np
from numpy.typing import NDArray

from slipstream.testing.load.samples import Longs


def of_frozen_server(times: Longs, *, service_ns: int, freeze_after_ns: int, freeze_ns: int) -> Longs:
    """Latency of each request to a server that answers after `service_ns` but while it is frozen.

    The freeze is counted from the first request. An answer due in it comes at its end; a request that
    comes in it is read at its end.

    Args:
        times: when requests are sent, ascending.
        service_ns: time of an answer.
        freeze_after_ns: when the freeze begins after the first request.
        freeze_ns: how long it takes.
    """
    begin = times[0] + freeze_after_ns
    end = begin + freeze_ns
    answers = times + service_ns
    held = (times < begin) & (answers >= begin) & (answers < end)
    unread = (times >= begin) & (times < end)
    latencies: Longs = np.select([held, unread], [end - times, end - times + service_ns], service_ns)
    return latencies


def of_queue(times: Longs, *, service_ns: int) -> Longs:
    """Latency of each request in a queue with one server and constant service time, by Lindley's recursion.

    Exact for these arrivals: W(n+1) = max(0, W(n) + service - gap). Written without a loop: the work that
    came in minus its smallest excess over the time so far.
    """
    slack = np.concatenate([np.zeros(1, np.int64), np.cumsum(service_ns - np.diff(times))])
    waits: Longs = slack - np.minimum.accumulate(np.minimum(slack, 0))
    return waits + service_ns


def mean_wait_seconds(rate: float, service_seconds: float) -> float:
    """Mean wait in M/D/1 in the long run: rho * service / (2 (1 - rho)) (Pollaczek and Khinchine).

    Infinite where the load is 1 or more.
    """
    load = rate * service_seconds
    return load * service_seconds / (2 * (1 - load)) if load < 1 else float("inf")


def errors_at(measured: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative errors of measured percentiles."""
    return np.abs(measured - truth) / truth
