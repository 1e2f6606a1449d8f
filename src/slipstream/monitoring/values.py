"""What the Python API returns: plain numbers that also carry what belongs to them."""

from typing import Generic, TypeVar

from msgspec import Struct

from slipstream.monitoring.summary import Share, Summary, Tokens, Transfer

T = TypeVar("T")


class ResponseTime(float, Generic[T]):
    """Milliseconds that a call took, and in `.result` what it returned."""

    __slots__ = ("result",)
    result: T


class Percent(float):
    """Percent of what may be used (the cgroup's limit or the machine's); `.host`: of the whole machine."""

    __slots__ = ("host",)
    host: float | None


class ModelLatency(float):
    """p95 in ms over the last minute.

    Attributes:
        p50, p99, mean: the same in ms.
        count: answers that it is made of.
        by_model: p95 in ms of each model.
    """

    __slots__ = ("by_model", "count", "mean", "p50", "p99")
    p50: float
    p99: float
    mean: float
    count: int
    by_model: dict[str, float]


class DiskIO(Struct, frozen=True):
    """Bytes read and written: a second over the last 10 s, and in all since the start."""

    read_per_second: float
    written_per_second: float
    read_total: int
    written_total: int
    host: "DiskIO | None" = None
    """The same of the whole machine."""


class NetworkIO(Struct, frozen=True):
    """Bytes received and sent by the machine, loopback left out: a second over 10 s, and in all."""

    received_per_second: float
    sent_per_second: float
    received_total: int
    sent_total: int


class TokenUsage(Struct, frozen=True):
    """Tokens since the server began, and what they cost in US dollars.

    `cost` is None where no price is known; `unpriced_requests` are not in it.
    """

    input: int
    output: int
    cached: int
    cost: float | None
    unpriced_requests: int
    by_model: dict[str, Tokens]

    @property
    def total(self) -> int:
        """Input and output together; cached ones are part of the input."""
        return self.input + self.output


def response_time(milliseconds: float, result: T) -> ResponseTime[T]:
    """The time of a call that returned `result`."""
    made: ResponseTime[T] = ResponseTime(milliseconds)
    made.result = result
    return made


def percent(share: Share) -> Percent | None:
    """A share as a number; None where it is not known."""
    if share.own is None:
        return None
    made = Percent(share.own)
    made.host = share.host
    return made


def disk_io(summary: Summary) -> DiskIO | None:
    """Both disks of a summary; None where nothing was seen."""
    own, host = summary.disk, summary.disk_host
    return _disk_io(own, _disk_io(host) if host is not None else None) if own is not None else None


def network_io(summary: Summary) -> NetworkIO | None:
    """The network of a summary; None where nothing was seen."""
    seen = summary.network_host
    if seen is None:
        return None
    return NetworkIO(seen.inward_per_second, seen.outward_per_second, seen.inward_total, seen.outward_total)


def token_usage(summary: Summary) -> TokenUsage | None:
    """The tokens of a summary; None where no request had any."""
    all_ = summary.tokens
    if all_ is None:
        return None
    return TokenUsage(
        all_.input, all_.output, all_.cached, all_.cost, all_.unpriced_requests, summary.tokens_by_model
    )


def model_latency(summary: Summary) -> ModelLatency | None:
    """The latency of a summary; None where no answer ended within the last minute."""
    seen = summary.latency
    if seen is None:
        return None
    made = ModelLatency(seen.p95)
    made.p50, made.p99, made.mean, made.count = seen.p50, seen.p99, seen.mean, seen.count
    made.by_model = {model: times.p95 for model, times in summary.latency_by_model.items()}
    return made


def _disk_io(seen: Transfer, host: DiskIO | None = None) -> DiskIO:
    return DiskIO(
        seen.inward_per_second, seen.outward_per_second, seen.inward_total, seen.outward_total, host
    )
