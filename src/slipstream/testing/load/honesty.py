"""Whether a result can be believed: a client that was itself the bottleneck measures itself.

`INVALID` is a stamp, not a warning: figures of such a run say nothing about the target.
"""

import math

from msgspec import Struct

from slipstream.testing.load.run import Meters
from slipstream.testing.load.stats import Estimate, shown
from slipstream.testing.load.window import Window

LAG_SHARE_MAX = 0.05
"""Most the client's lag may be of what is reported, p99 against the median."""
LAG_FLOOR_MS = 0.5
"""Below this, lag is what a timer takes to fire: it is shown and judges nothing."""
DELIVERED_MIN = 0.99
CPU_MAX = 0.9
STEAL_MAX = 0.05
LATE_SHARE = 0.001
"""Share of requests without an answer from which percentiles are said to leave some out."""


class Client(Struct, frozen=True, kw_only=True):
    """How the client did; shares are 0..1, None = not known."""

    lag_p50_ms: float | None = None
    lag_p99_ms: float | None = None
    lag_max_ms: float | None = None
    loop_lag_p99_ms: float | None = None
    cpu_share_max: float | None = None
    """Of the busiest worker."""
    workers: int = 0
    workers_lost: int = 0
    steal_share: float | None = None
    gc_pauses: int = 0
    gc_pause_max_ms: float = 0.0
    cap_hits: int = 0
    delivered_share: float | None = None
    connections: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    gaps_beyond: int = 0
    """Gaps between chunks that are not among the figures, for there were too many to keep."""


class Honesty(Struct, frozen=True, kw_only=True):
    """The verdict on a run."""

    valid: bool = True
    reasons: tuple[str, ...] = ()
    """Why it is invalid."""
    cautions: tuple[str, ...] = ()
    """What a reader of the figures should know."""


def client(meters: Meters, window: Window) -> Client:
    """The client's state in words that can be stored."""
    return Client(
        lag_p50_ms=_known(meters.lag_p50_ns / 1e6),
        lag_p99_ms=_known(meters.lag_p99_ns / 1e6),
        lag_max_ms=_known(meters.lag_max_ns / 1e6),
        loop_lag_p99_ms=_known(meters.loop_lag_p99_ns / 1e6),
        cpu_share_max=max(meters.cpu_shares, default=None),
        workers=len(meters.cpu_shares),
        workers_lost=meters.workers_lost,
        steal_share=_known(meters.steal_share),
        gc_pauses=meters.gc_pauses,
        gc_pause_max_ms=meters.gc_pause_max_ns / 1e6,
        cap_hits=meters.cap_hits,
        delivered_share=_known(meters.delivered_share),
        connections=meters.connections,
        sent_bytes=meters.sent_bytes,
        received_bytes=meters.received_bytes,
        gaps_beyond=meters.gaps_beyond,
    )


def honesty(found: Client, ttft_p50: Estimate, service_p50: Estimate, ended: tuple[int, int]) -> Honesty:
    """Judge a run.

    Args:
        found: the client's state.
        ttft_p50: median time to first token in ms, where there is one.
        service_p50: median service time in ms.
        ended: requests that ended, and how many of them never got their answer in time.
    """
    reasons = []
    reported = ttft_p50.value or service_p50.value
    lag = found.lag_p99_ms
    if lag is not None and reported and lag > max(LAG_FLOOR_MS, LAG_SHARE_MAX * reported):
        reasons.append(
            f"requests were sent up to {shown(lag)} ms late (p99), more than {LAG_SHARE_MAX:.0%} of the"
            f" {shown(reported)} ms that are reported"
        )
    if found.delivered_share is not None and found.delivered_share < DELIVERED_MIN:
        reasons.append(f"the client sent only {found.delivered_share:.1%} of the requests that were due")
    if found.cpu_share_max is not None and found.cpu_share_max > CPU_MAX:
        reasons.append(f"a worker of the client was {found.cpu_share_max:.0%} busy")
    if found.steal_share is not None and found.steal_share > STEAL_MAX:
        reasons.append(f"the host gave {found.steal_share:.0%} of this machine's time to others")
    if found.workers_lost:
        reasons.append(f"{found.workers_lost} of the client's workers died")
    return Honesty(valid=not reasons, reasons=tuple(reasons), cautions=_cautions(found, ended))


def _cautions(found: Client, ended: tuple[int, int]) -> tuple[str, ...]:
    said = []
    whole, late = ended
    if whole and late / whole > LATE_SHARE:
        said.append(
            f"{late / whole:.1%} of the requests got no answer in time and are in no percentile:"
            " the tail is longer than it looks"
        )
    if found.cap_hits:
        said.append(f"{found.cap_hits} requests waited for a free user; response time counts that wait")
    if found.gaps_beyond:
        said.append(f"{found.gaps_beyond} gaps between chunks were too many to keep")
    return tuple(said)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
