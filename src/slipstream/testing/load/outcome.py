"""From what the workers left to a result: samples joined, the client's own doing summed up."""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct, structs

from slipstream.testing.load.columns import GAP_BUCKETS, Reading
from slipstream.testing.load.orders import Report
from slipstream.testing.load.plan import SECOND, Plan
from slipstream.testing.load.run import Meters, RunResult, Stopped
from slipstream.testing.load.samples import Samples


class Left(Struct, frozen=True):
    """What a worker left behind."""

    reading: Reading
    report: Report | None
    """None if it died."""
    last_words: str = ""


_WORST_FIRST: tuple[Stopped, ...] = (
    "worker_died",
    "target_down",
    "refused",
    "bytes_max",
    "requests_max",
    "duration_max",
    "requested",
    "finished",
)
MESSAGES: dict[Stopped, str] = {
    "finished": "",
    "requested": "Stopped before its end: the result is of what was sent until then.",
    "target_down": "The target accepted no connection; the rest was not sent.",
    "refused": "The target refused every request; the rest was not sent.",
    "bytes_max": "Stopped at the cap on received bytes; the result is of what came until then.",
    "requests_max": "Stopped at the cap on requests; the result is of what was sent until then.",
    "duration_max": "Stopped at the cap on time; the result is of what was sent until then.",
    "worker_died": "A worker process died; the result holds what it had written down.",
}
"""One line for each way to end early."""


def collected(
    workers: Sequence[Left], plan: Plan, *, wall_ns: int, elapsed_ns: int, steal: float
) -> RunResult:
    """The result of a run whose workers have ended."""
    samples = Samples.merge([_samples(worker, number, plan) for number, worker in enumerate(workers)])
    reports = [worker.report for worker in workers if worker.report is not None]
    lost = len(workers) - len(reports)
    reasons = {report.stopped for report in reports} | ({"worker_died"} if lost else set())
    stopped = next(reason for reason in _WORST_FIRST if reason in reasons)
    ended = max([report.ended_ns for report in reports], default=elapsed_ns)
    if lost:
        ended = max(ended, elapsed_ns)
    counts = [worker.reading.counts() for worker in workers]
    meters = meters_of(
        samples, reports, steal=steal, sent_bytes=sum(each.sent_bytes for each in counts), workers_lost=lost
    )
    last_words = next((worker.last_words for worker in workers if worker.report is None), "")
    message = MESSAGES[stopped]
    return RunResult(
        samples=samples,
        meters=meters,
        started_wall_ns=wall_ns,
        duration_ns=ended,
        plan_ns=_plan_ns(plan, ended, stopped),
        stopped=stopped,
        message=f"{message} Its last words: {last_words}" if last_words else message,
        said=tuple({each.status: each for report in reports for each in report.said}.values()),
    )


def _plan_ns(plan: Plan, ended: int, stopped: Stopped) -> int:
    """A rate sent to its end was sent over the whole duration, though its last answer came before."""
    duration = round(plan.duration_seconds * SECOND)
    is_whole = plan.loop in {"constant", "poisson", "gamma"} and plan.requests is None
    return duration if is_whole and stopped == "finished" else min(ended, duration)


def _samples(worker: Left, number: int, plan: Plan) -> Samples:
    counts = worker.reading.counts()
    rows = counts.rows if worker.report is not None else worker.reading.rows_begun(counts.rows)
    warm = round(plan.warmup_seconds * SECOND)
    ramp = round(plan.ramp_seconds * SECOND)
    samples = worker.reading.samples(rows, counts.gaps, number, (warm, ramp))
    if worker.report is None or not worker.report.ids:
        return samples
    ids = sorted(worker.report.ids)
    return structs.replace(
        samples,
        request_rows=np.array([row for row, _ in ids], np.int64),
        request_ids=tuple(each for _, each in ids),
    )


def meters_of(
    samples: Samples, reports: Sequence[Report], *, steal: float, sent_bytes: int, workers_lost: int
) -> Meters:
    """How the client did."""
    lags = samples.lag_ns
    loop_lags = np.array([lag for report in reports for lag in report.loop_lags_ns], np.int64)
    sent = int(np.count_nonzero(samples.sent_ns >= 0))
    waiting = len(samples) - sent
    planned = sum(report.planned for report in reports) if reports else len(samples)
    histogram = np.zeros(GAP_BUCKETS if any(report.gap_histogram for report in reports) else 0, np.int64)
    for report in reports:
        if report.gap_histogram:
            histogram += np.array(report.gap_histogram, np.int64)
    return Meters(
        lag_p50_ns=_percentile(lags, 50),
        lag_p99_ns=_percentile(lags, 99),
        lag_max_ns=_percentile(lags, 100),
        loop_lag_p99_ns=_percentile(loop_lags, 99),
        loop_lag_max_ns=_percentile(loop_lags, 100),
        cpu_shares=tuple(math.nan if each.cpu_share is None else each.cpu_share for each in reports),
        steal_share=steal,
        gc_pauses=sum(report.gc_pauses for report in reports),
        gc_pause_max_ns=max([report.gc_pause_max_ns for report in reports], default=0),
        gc_pause_total_ns=sum(report.gc_pause_total_ns for report in reports),
        cap_hits=sum(report.cap_hits for report in reports),
        planned=planned,
        sent=sent,
        waiting=waiting,
        delivered_share=min(1.0, len(samples) / planned) if planned else 1.0,
        sent_bytes=sent_bytes,
        received_bytes=int(samples.received_bytes.sum(dtype=np.int64)),
        connections=sum(report.connections for report in reports),
        gaps_beyond=sum(report.gaps_beyond for report in reports),
        gap_histogram=histogram,
        workers_lost=workers_lost,
    )


def _percentile(values: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", rank: float) -> float:
    return float(np.percentile(values, rank)) if len(values) else math.nan
