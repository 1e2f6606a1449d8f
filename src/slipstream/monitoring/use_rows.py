"""CPU, memory, disk and network of a process tree as rows of the USE table: how full, who waits, what failed.

Method: Brendan Gregg's USE. What waits is told by the kernel (`pressure`); where it does not, by the control
group's throttling. Reading takes some milliseconds of system calls: not for an event loop.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
from msgspec import Struct

from slipstream.core import clock
from slipstream.core.errors import ConfigurationError
from slipstream.core.use import UseRow
from slipstream.monitoring.pressure import pressure
from slipstream.monitoring.resources import Flow, ResourceReader, Resources

RATE_SECONDS_MIN = 0.05
"""The kernel counts CPU in steps of 10 ms: a rate over less time than this would be noise."""
_MB = 1e6
_WAITING = "% of the time"


class _Devices(Struct, frozen=True):
    """What disks and network cards have counted since the machine began."""

    busy_ms: dict[str, int]
    network_errors: int
    network_bits_per_second: float
    """The fastest card's, 0 where none says."""


class ResourceRows:
    """Gives the rows; rates are over the time since the call before. One thread at a time.

    Args:
        pid: the top of the tree; ours unless given.
        folder: the folder whose disk must not fill up.

    Making and calling it raise `ConfigurationError` where the system's counters may not be read.
    """

    def __init__(self, pid: int | None = None, folder: Path | None = None) -> None:
        with _readable():
            self._reader = ResourceReader(pid, folder)
            self._devices = _devices()
        self._network = Flow()
        self._read_ns = clock.monotonic_ns()

    def __call__(self) -> list[UseRow]:
        """The rows now."""
        with _readable():
            seen, devices = self._reader.read(), _devices()
        now_ns = clock.monotonic_ns()
        seconds = (now_ns - self._read_ns) / 1e9
        moved = seen.network_host.since(self._network)
        bytes_a_second = (moved.inward + moved.outward) / max(seconds, 1e-9)
        before, self._devices = self._devices, devices
        self._network, self._read_ns = seen.network_host, now_ns
        is_rate = seconds >= RATE_SECONDS_MIN
        return [
            _cpu(seen, known=is_rate),
            _memory(seen),
            _disk(seen, _busiest(before, devices, seconds) if is_rate else None),
            _network_row(devices, bytes_a_second if is_rate else None),
        ]


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (OSError, psutil.Error) as error:
        raise ConfigurationError(
            f"The counters of this machine cannot be read: {error}.",
            hint="Let this process read /proc and /sys, and open as many files as it needs (`ulimit -n`).",
        ) from None


def _cpu(seen: Resources, *, known: bool) -> UseRow:
    waiting = pressure("cpu")
    return UseRow(
        "cpu",
        None if seen.cpu_percent is None or not known else seen.cpu_percent / 100,
        waiting if waiting is not None else seen.cpu_throttled_percent,
        _WAITING,
        None,
        f"{seen.cpu_limit_cores:g} cores",
    )


def _memory(seen: Resources) -> UseRow:
    limit = f"{seen.memory_limit_bytes / _MB:,.0f} MB"
    return UseRow("memory", seen.memory_percent / 100, pressure("memory"), _WAITING, None, limit)


def _disk(seen: Resources, busy: float | None) -> UseRow:
    full = seen.disk_full_percent
    limit = f"{full:.0f} % of the data disk is full" if full is not None else ""
    return UseRow("disk", busy, pressure("io"), _WAITING, None, limit)


def _network_row(devices: _Devices, bytes_a_second: float | None) -> UseRow:
    speed = devices.network_bits_per_second
    used = bytes_a_second * 8 / speed if speed and bytes_a_second is not None else None
    limit = f"{speed / 1e6:,.0f} Mbit/s" if speed else "the card's speed is not told"
    return UseRow("network", used, None, "", devices.network_errors, limit)


def _busiest(before: _Devices, now: _Devices, seconds: float) -> float | None:
    """The share of the time in which the busiest disk worked; None where disks do not tell."""
    shares = [
        (busy - before.busy_ms[name]) / 1e3 / seconds
        for name, busy in now.busy_ms.items()
        if name in before.busy_ms
    ]
    return min(1.0, max(0.0, *shares)) if len(shares) > 1 else (min(1.0, shares[0]) if shares else None)


def _devices() -> _Devices:
    disks = psutil.disk_io_counters(perdisk=True) or {}
    busy = {name: each.busy_time for name, each in disks.items() if hasattr(each, "busy_time")}
    cards = {
        name: each for name, each in psutil.net_io_counters(pernic=True).items() if name not in {"lo", "lo0"}
    }
    speeds = [each.speed for name, each in psutil.net_if_stats().items() if name in cards and each.isup]
    errors = sum(each.errin + each.errout + each.dropin + each.dropout for each in cards.values())
    return _Devices(busy, errors, max((each for each in speeds if 0 < each < 65_535), default=0) * 1e6)
