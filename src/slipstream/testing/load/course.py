"""How a run went over time, and how its latencies are distributed: bounded data for plots."""

import itertools

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipstream.testing.load.samples import Samples
from slipstream.testing.load.window import Window

BUCKETS_MAX = 120
POINTS_MAX = 200
_NICE = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Course(Struct, frozen=True, kw_only=True):
    """Buckets of time, and points of the distribution of response times."""

    bucket_seconds: float = 1.0
    started: tuple[int, ...] = ()
    """Requests that were due in each bucket."""
    answered: tuple[int, ...] = ()
    """Good answers that came in each bucket."""
    failed: tuple[int, ...] = ()
    p50_ms: tuple[float | None, ...] = ()
    """Of the requests that were due in each bucket and got a good answer."""
    p95_ms: tuple[float | None, ...] = ()
    in_flight: tuple[float, ...] = ()
    """Requests under way, on average."""
    cdf_ms: tuple[float, ...] = ()
    """Response times at evenly spaced shares from 0 to 1, the tail more finely."""
    cdf_shares: tuple[float, ...] = ()


def course(samples: Samples, *, latencies_ms: NDArray[np.float64], window: Window) -> Course:
    """The course of all requests of a run, and the distribution of measured `latencies_ms`."""
    if not len(samples):
        return Course()
    length = window.last_ns / 1e9
    wide = next((each for each in _NICE if length / each <= BUCKETS_MAX), length / BUCKETS_MAX)
    count = max(1, int(np.ceil(length / wide)))
    edge = wide * 1e9
    due = np.clip((samples.intended_ns / edge).astype(np.int64), 0, count - 1)
    ended = samples.done_ns >= 0
    finish = np.clip((samples.done_ns / edge).astype(np.int64), 0, count - 1)
    p50, p95 = _percentiles(samples, due, count)
    shares, points = _distribution(latencies_ms)
    return Course(
        bucket_seconds=wide,
        started=_whole(np.bincount(due, minlength=count)),
        answered=_whole(np.bincount(finish[samples.ok], minlength=count)),
        failed=_whole(np.bincount(finish[ended & ~samples.ok], minlength=count)),
        p50_ms=p50,
        p95_ms=p95,
        in_flight=_under_way(samples, count, edge, window),
        cdf_ms=points,
        cdf_shares=shares,
    )


def _percentiles(
    samples: Samples, due: NDArray[np.int64], count: int
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    good = samples.ok
    times, places = samples.response_ns[good] / 1e6, due[good]
    edges = np.searchsorted(places, np.arange(count + 1))
    p50: list[float | None] = []
    p95: list[float | None] = []
    for first, last in itertools.pairwise(edges):
        inside = times[first:last]
        p50.append(round(float(np.quantile(inside, 0.5)), 4) if len(inside) else None)
        p95.append(round(float(np.quantile(inside, 0.95)), 4) if len(inside) else None)
    return tuple(p50), tuple(p95)


def _under_way(samples: Samples, count: int, edge: float, window: Window) -> tuple[float, ...]:
    """The time that requests were under way in each bucket, over its width."""
    sent = samples.sent_ns >= 0
    starts = samples.sent_ns[sent] / edge
    ends = np.where(samples.done_ns >= 0, samples.done_ns, window.last_ns)[sent] / edge
    bounds = np.arange(count + 1, dtype=np.float64)
    started, ended = np.sort(starts), np.sort(ends)
    filled = _area(started, bounds) - _area(ended, bounds)
    return tuple(round(float(each), 4) for each in np.diff(filled))


def _area(times: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each bound, the sum of what of it lies behind each of the ascending times."""
    totals = np.concatenate([[0.0], np.cumsum(times)])
    before = np.searchsorted(times, bounds)
    out: NDArray[np.float64] = before * bounds - totals[before]
    return out


def _distribution(times: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    times = times[~np.isnan(times)]
    if not len(times):
        return (), ()
    tail = 1 - np.logspace(-1, -4, POINTS_MAX // 2)
    shares = np.concatenate([np.linspace(0, 0.9, POINTS_MAX // 2, endpoint=False), tail, [1.0]])
    shares = shares[(shares <= 1 - 1 / len(times)) | (shares == 1.0)]
    points = np.quantile(times, shares)
    return tuple(round(float(s), 6) for s in shares), tuple(round(float(p), 4) for p in points)


def _whole(numbers: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(each) for each in numbers)
