"""How busy the target's processes and this machine are during a probe; known where the target is on it."""

import contextlib
from urllib.parse import urlsplit

import psutil

from slipstream.core import clock
from slipstream.testing.load.target import CallableTarget, Target, is_loopback

_NOT_BUSY = ("idle", "iowait", "guest", "guest_nice")
_NOT_TIME = ("guest", "guest_nice")
"""Counted in `user` and `nice` already."""


class Effort:
    """CPU time from when it is built until `read`."""

    def __init__(self, target: Target | CallableTarget) -> None:
        self._processes: list[psutil.Process] = []
        self._here = isinstance(target, Target) and is_loopback(target.host)
        if isinstance(target, Target) and self._here:
            parts = urlsplit(target.url)
            self._processes = _listening(parts.port or (443 if parts.scheme == "https" else 80))
        self._began_ns = clock.monotonic_ns()
        self._machine = _machine_seconds()
        self._before = self._seconds()

    def read(self) -> dict[str, float | None]:
        """`cpu_share` of this machine, 0..1, and `busiest_cores`, used by the target's busiest process.

        None = not known.
        """
        busy, total = _machine_seconds()
        length = (clock.monotonic_ns() - self._began_ns) / 1e9
        used = [now - self._before[pid] for pid, now in self._seconds().items() if pid in self._before]
        spent = total - self._machine[1]
        return {
            "cpu_share": (busy - self._machine[0]) / spent if self._here and spent > 0 else None,
            "busiest_cores": max(used) / length if used and length > 0 else None,
        }

    def _seconds(self) -> dict[int, float]:
        """CPU time of each process by its id."""
        found = {}
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                found[process.pid] = float(times.user + times.system)
        return found


def _listening(port: int) -> list[psutil.Process]:
    """The processes that listen on a port of this machine, all they have started, and who started them."""
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listens and connection.pid:
                process = psutil.Process(connection.pid)
                parent = process.parent()
                siblings = parent.children(recursive=True) if parent and _is_kin(parent, process) else []
                for each in (process, *process.children(recursive=True), *siblings):
                    found[each.pid] = each
    return list(found.values())


def _is_kin(parent: psutil.Process, child: psutil.Process) -> bool:
    """Whether a parent runs the same program: a supervisor, not a shell."""
    with contextlib.suppress(psutil.Error):
        return bool(parent.exe() == child.exe())
    return False


def _machine_seconds() -> tuple[float, float]:
    """CPU time of this machine that was used, and that there was."""
    times = psutil.cpu_times()._asdict()
    total = sum(value for name, value in times.items() if name not in _NOT_TIME)
    return sum(value for name, value in times.items() if name not in _NOT_BUSY), total
