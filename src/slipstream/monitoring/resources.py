"""CPU, memory, disk and network of a process tree and of its machine, from one look to the next.

What may be used is the control group's limit or the machine's, whichever is less. Reading takes a few
milliseconds of system calls: not for an event loop. It does not know who keeps the numbers.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
from msgspec import Struct

from slipstream.core import clock
from slipstream.monitoring import cgroup
from slipstream.monitoring.gpu import Gpu, GpuReader

RESCAN_NS = 5_000_000_000
"""How often the machine is searched for new processes of the tree; it costs 10 µs for each on the machine."""
PROCESSES_MAX = 1024
"""Processes of a tree that are looked at; more are left out of the sums."""

Value = tuple[str, dict[str, str], float]
"""Name of a metric, labels, value."""


class Flow(Struct, frozen=True):
    """Bytes both ways since the first look: read and written, or received and sent."""

    inward: int = 0
    outward: int = 0

    def __add__(self, other: "Flow") -> "Flow":
        return Flow(self.inward + other.inward, self.outward + other.outward)

    def since(self, before: "Flow") -> "Flow":
        """What came on top; a count that fell (a device that left) adds nothing."""
        return Flow(max(0, self.inward - before.inward), max(0, self.outward - before.outward))


class Resources(Struct, frozen=True, kw_only=True):
    """One look. Percentages are of what may be used; None where it takes a second look, or none is had."""

    cpu_percent: float | None
    cpu_percent_host: float | None
    cpu_limit_cores: float
    cpu_throttled_percent: float | None
    memory_percent: float
    memory_percent_host: float
    memory_bytes: int
    memory_limit_bytes: int
    disk: Flow
    """Read and written by the tree."""
    disk_host: Flow
    disk_full_percent: float | None
    network_host: Flow
    """Received and sent by the machine, loopback left out."""
    open_files: int
    threads: int
    processes: int
    gpus: tuple[Gpu, ...] = ()

    def gauges(self) -> Iterator[Value]:
        """What of it is a gauge of `core.metrics`."""
        yield "cpu_limit", {}, self.cpu_limit_cores
        yield "memory_usage", {}, self.memory_percent
        yield "memory_usage_host", {}, self.memory_percent_host
        yield "memory_bytes", {}, self.memory_bytes
        yield "memory_limit_bytes", {}, self.memory_limit_bytes
        yield "open_files", {}, self.open_files
        yield "threads", {}, self.threads
        yield "processes", {}, self.processes
        for name, value in (
            ("cpu_usage", self.cpu_percent),
            ("cpu_usage_host", self.cpu_percent_host),
            ("cpu_throttled", self.cpu_throttled_percent),
            ("disk_usage", self.disk_full_percent),
        ):
            if value is not None:
                yield name, {}, value
        for gpu in self.gpus:
            yield from gpu.gauges()

    def counters(self) -> Iterator[Value]:
        """What of it is a counter, since the first look."""
        for scope, flow in (("process", self.disk), ("host", self.disk_host)):
            yield "disk_read_bytes", {"scope": scope}, flow.inward
            yield "disk_written_bytes", {"scope": scope}, flow.outward
        yield "network_received_bytes", {}, self.network_host.inward
        yield "network_sent_bytes", {}, self.network_host.outward


class _Look(Struct, frozen=True):
    """What one process had used when it was looked at."""

    cpu_seconds: float
    disk: Flow
    memory_bytes: int
    open_files: int
    threads: int


_Key = tuple[int, float]
"""Process id and time of its start: ids are used again."""


class ResourceReader:
    """Looks at a process and all below it. One thread at a time.

    Args:
        pid: the top of the tree; ours unless given.
        folder: the folder whose disk must not fill up; none unless given.
    """

    def __init__(self, pid: int | None = None, folder: Path | None = None) -> None:
        self._top = psutil.Process(pid if pid is not None else os.getpid())
        self._folder = folder
        self._tree: dict[_Key, psutil.Process] = {}
        self._scanned_ns = 0
        self._looks: dict[_Key, _Look] = {}
        self._looked_ns = 0
        self._gpus = GpuReader()
        self._machine = _machine()
        self._throttling = cgroup.throttling()
        self._disk = self._disk_host = self._network_host = Flow()
        self.read()  # the first look, from which the next counts

    def read(self) -> Resources:
        """Look now. Rates are over the time since the last look."""
        now_ns = clock.monotonic_ns()
        limits = cgroup.limits()
        cores = min(_usable_cores(), limits.cpu_cores or float("inf"))
        memory = psutil.virtual_memory()
        memory_limit = min(memory.total, limits.memory_bytes or memory.total)
        looks = self._look(now_ns)
        cpu = self._count(looks, now_ns)
        machine, before = _machine(), self._machine
        self._disk_host += machine.disk.since(before.disk)
        self._network_host += machine.network.since(before.network)
        busy, passed = machine.busy_seconds - before.busy_seconds, machine.all_seconds - before.all_seconds
        self._machine = machine
        resident = sum(look.memory_bytes for look in looks.values())
        return Resources(
            cpu_percent=None if cpu is None else 100.0 * cpu / cores,
            cpu_percent_host=100.0 * max(0.0, busy) / passed if passed > 0 else None,
            cpu_limit_cores=cores,
            cpu_throttled_percent=self._throttled(),
            memory_percent=100.0 * resident / memory_limit,
            memory_percent_host=memory.percent,
            memory_bytes=resident,
            memory_limit_bytes=memory_limit,
            disk=self._disk,
            disk_host=self._disk_host,
            disk_full_percent=_fullness(self._folder),
            network_host=self._network_host,
            open_files=sum(look.open_files for look in looks.values()),
            threads=sum(look.threads for look in looks.values()),
            processes=len(looks),
            gpus=tuple(self._gpus.read()),
        )

    def _count(self, looks: dict[_Key, _Look], now_ns: int) -> float | None:
        """Add up what the tree used since the last look; its CPU in cores, None at the first look."""
        seconds = (now_ns - self._looked_ns) / 1e9
        first = not self._looked_ns
        cpu = 0.0
        for key, look in looks.items():
            before = self._looks.get(key)
            if before is not None:
                cpu += max(0.0, look.cpu_seconds - before.cpu_seconds)
                self._disk += look.disk.since(before.disk)
            elif not first:  # it began since, and all that it used is new
                cpu += look.cpu_seconds
                self._disk += look.disk
        self._looks, self._looked_ns = looks, now_ns
        return None if first or seconds <= 0 else cpu / seconds

    def _throttled(self) -> float | None:
        now, before = cgroup.throttling(), self._throttling
        self._throttling = now
        periods = now.periods - before.periods
        return 100.0 * (now.throttled - before.throttled) / periods if periods > 0 else None

    def _look(self, now_ns: int) -> dict[_Key, _Look]:
        if not self._tree or now_ns - self._scanned_ns > RESCAN_NS:
            self._scan(now_ns)
        looks: dict[_Key, _Look] = {}
        for key, process in list(self._tree.items()):
            try:
                looks[key] = _look_at(process)
            except (psutil.Error, OSError):  # it ended
                del self._tree[key]
                self._scanned_ns = 0  # something may have taken its place
        return looks

    def _scan(self, now_ns: int) -> None:
        self._scanned_ns = now_ns
        try:
            found = [self._top, *self._top.children(recursive=True)][:PROCESSES_MAX]
        except (psutil.Error, OSError):
            found = []
        self._tree = {(each.pid, each.create_time()): each for each in found}


class _Machine(Struct, frozen=True):
    busy_seconds: float
    all_seconds: float
    disk: Flow
    network: Flow


def _machine() -> _Machine:
    times = psutil.cpu_times()
    everything = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    disk = psutil.disk_io_counters()
    network = Flow()
    for name, card in psutil.net_io_counters(pernic=True).items():
        if name not in {"lo", "lo0"}:
            network += Flow(card.bytes_recv, card.bytes_sent)
    return _Machine(
        everything - idle,
        everything,
        Flow(disk.read_bytes, disk.write_bytes) if disk is not None else Flow(),
        network,
    )


def _look_at(process: psutil.Process) -> _Look:
    with process.oneshot():
        times = process.cpu_times()
        return _Look(
            times.user + times.system,
            _disk_of(process),
            process.memory_info().rss,
            process.num_fds() if hasattr(process, "num_fds") else 0,
            process.num_threads(),
        )


def _disk_of(process: psutil.Process) -> Flow:
    if not hasattr(process, "io_counters"):  # macOS
        return Flow()
    try:
        counters = process.io_counters()
    except psutil.AccessDenied:
        return Flow()
    return Flow(counters.read_bytes, counters.write_bytes)


def _usable_cores() -> float:
    if hasattr(os, "sched_getaffinity"):
        return float(len(os.sched_getaffinity(0)))
    return float(os.cpu_count() or 1)


def _fullness(folder: Path | None) -> float | None:
    if folder is None:
        return None
    try:
        return float(psutil.disk_usage(str(folder)).percent)
    except OSError:
        return None
