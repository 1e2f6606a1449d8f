"""The words of a run: what it may do, what is seen while it runs, how the client did, what comes out."""

from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipstream.testing.load.samples import Samples
from slipstream.testing.load.words import Said

Stopped = Literal[
    "finished",
    "requested",
    "target_down",
    "refused",
    "bytes_max",
    "requests_max",
    "duration_max",
    "worker_died",
]
"""Why a run ended: `finished` = its plan was played; `requested` = somebody stopped it."""


class RunOptions(Struct, frozen=True, kw_only=True):
    """How a plan is played, and what no plan may exceed."""

    workers: int = 0
    """Processes that send; 0 = one for each spare core."""
    cores: tuple[int, ...] = ()
    """Cores that they are bound to, in turn; empty = wherever the system likes."""
    hosts: tuple[str, ...] = ()
    """Hosts named in the command; loopback may always be asked, any other only if it stands here."""
    timeout_seconds: float = 60.0
    """How long one request may take from its sending."""
    connect_seconds: float = 5.0
    grace_seconds: float = 10.0
    """How long, after the plan's end, answers under way and requests that wait for a user may still take."""
    tick_seconds: float = 1.0
    ca_file: str = ""
    """PEM file of the authority to trust instead of the system's."""
    local_ports: tuple[int, int] | None = None
    """Ports to connect from, lowest and highest, within the system's range (Linux 6.3); None = all of it."""
    request_id_header: str = "x-request-id"
    """Response header that names the request at the server."""
    request_ids_max: int = 20_000
    rate_max: float = 100_000.0
    """Requests a second."""
    users_max: int = 10_000
    """Concurrent users of a closed loop, and connections of an open one."""
    duration_seconds_max: float = 24 * 3600.0
    requests_max: int = 10_000_000
    bytes_max: int = 100_000_000_000
    """Bytes received by all workers; the run stops there."""
    answer_bytes_max: int = 64 * 1024 * 1024
    """Bytes of one answer."""
    gaps_max: int = 8_000_000
    """Gaps between chunks that are kept exactly; those beyond are counted in `Meters.gap_histogram`."""


class Tick(Struct, frozen=True, kw_only=True):
    """What is seen of a run while it runs, about once a second."""

    at_ns: int
    """Since the run's start."""
    planned: int
    """Requests of the whole plan; 0 = a closed loop without a bound on them."""
    duration_ns: int
    """Length of the plan."""
    sent: int
    done: int
    errors: int
    """Of those that are done."""
    in_flight: int
    sent_per_second: float
    """In the time since the tick before; so are all below."""
    done_per_second: float
    response_ms_p50: float
    """NaN where nothing was answered; so are all below."""
    response_ms_p99: float
    ttft_ms_p50: float
    lag_ms_p99: float
    error_kinds: dict[str, int]
    """Errors so far by kind."""


class Meters(Struct, frozen=True, kw_only=True):
    """How the client itself did: what the numbers of a run have to be judged by."""

    lag_p50_ns: float
    """Schedule lag: how much later than intended requests were taken up. NaN without requests."""
    lag_p99_ns: float
    lag_max_ns: float
    loop_lag_p99_ns: float
    """How late timers of the workers' event loops fired (their grain is 1 ms). NaN if none fired."""
    loop_lag_max_ns: float
    cpu_shares: tuple[float, ...]
    """CPU time over wall time of each worker, while the plan was played."""
    steal_share: float
    """Share of the machine's CPU time that its host gave to others; NaN where it is not known."""
    gc_pauses: int
    gc_pause_max_ns: int
    gc_pause_total_ns: int
    cap_hits: int
    """Requests of an open loop that were due while all users were busy."""
    planned: int
    """Requests that were due while the run lasted."""
    sent: int
    waiting: int
    """Requests that still waited for a free user when the run ended."""
    delivered_share: float
    """(sent + waiting) / planned: what the client itself failed to send is missing here."""
    sent_bytes: int
    received_bytes: int
    connections: int
    """Connections opened; each takes a local port."""
    gaps_beyond: int
    """Gaps that are in `gap_histogram` only."""
    gap_histogram: NDArray[np.int64]
    """Counts by bucket: bucket i holds gaps from 2**(i/32) to 2**((i+1)/32) ns; empty if none were beyond."""
    workers_lost: int
    """Workers that died on the way; what they had written down is in the samples."""


class RunResult(Struct, frozen=True, kw_only=True):
    """What a run brought."""

    samples: Samples
    meters: Meters
    started_wall_ns: int
    duration_ns: int
    """From the start to the last answer, or to the end of waiting for it."""
    plan_ns: int
    """From the start to when the last request could be sent: what rates refer to."""
    stopped: Stopped
    message: str = ""
    """One line on why it stopped early; empty if it did not."""
    said: tuple[Said, ...] = ()
    """What the target said when it refused, one for each status."""
