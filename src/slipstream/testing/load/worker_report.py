"""What is said of a run's sending at its end, beside the samples."""

import math

from slipstream.testing.load.columns import Recorder
from slipstream.testing.load.conductor import Conductor
from slipstream.testing.load.effort import GcPauses
from slipstream.testing.load.orders import Report
from slipstream.testing.load.run import Stopped
from slipstream.testing.load.words import Said

LAGS_MAX = 20_000
"""Timer lags that are reported; of a longer run, each n-th and the longest."""


def report_of(
    conductor: Conductor,
    stopped: Stopped,
    *,
    ended_ns: int,
    pauses: GcPauses,
    ids: list[tuple[int, str]],
    said: list[Said],
) -> Report:
    """The report of a sender that is closed."""
    recorder: Recorder = conductor.recorder
    lags = conductor.loop_lags
    if len(lags) > LAGS_MAX:
        lags = [*lags[:: len(lags) // LAGS_MAX + 1], max(lags)]
    share = conductor.cpu.share
    return Report(
        stopped=stopped,
        ended_ns=ended_ns,
        planned=conductor.loop.due(ended_ns),
        cap_hits=conductor.loop.cap_hits,
        cpu_share=None if math.isnan(share) else share,
        loop_lags_ns=lags,
        gc_pauses=pauses.count,
        gc_pause_max_ns=pauses.max_ns,
        gc_pause_total_ns=pauses.total_ns,
        connections=conductor.opened,
        gaps_beyond=recorder.gaps_beyond,
        gap_histogram=recorder.gap_histogram,
        ids=ids,
        said=said,
    )
