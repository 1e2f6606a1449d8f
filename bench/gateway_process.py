"""Processes of the gateway benchmark: started on one core, met by their CPU time and memory, ended by their ids."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

PATH = "/v1/chat/completions"
START_SECONDS = 120.0
END_SECONDS = 8.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class NotAvailable(Exception):
    """A peer that cannot be installed or started; the message says why."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """One server and all that it starts, on one core for good."""

    def __init__(
        self,
        command: Sequence[object],
        core: int,
        folder: Path,
        *,
        environ: Mapping[str, str] | None = None,
        lifeline: bool = False,
    ) -> None:
        self.log = folder / "log"
        dropped = (
            "SLIPSTREAM",
            "PYTHONDONTWRITEBYTECODE",
        )  # users' settings; what would compile at each start
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        self.started = time.perf_counter()
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)], cwd=folder, env=kept | dict(environ or {}),
                stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
                stdout=output, stderr=output, process_group=0,
            )  # fmt: skip

    def pids(self) -> list[int]:
        """The process and all that it has started; psutil would look at every process of the machine."""
        found = [self.popen.pid]
        for pid in found:
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found.extend(map(int, path.read_text().split()))
        return found

    def tree(self) -> list[psutil.Process]:
        found = []
        for pid in self.pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found

    def cpu_us(self) -> float:
        """CPU time of the tree so far, ended threads and children included; in steps of a clock tick, 10 ms."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15]))
        return total / TICKS_PER_SECOND * 1e6

    def rss_mb(self) -> float:
        """Resident memory of the tree, shared pages counted in each of its processes."""
        total = 0
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 1e6

    def settle(self, *, seconds: float = 4.0) -> None:
        """Wait until it no longer works off what the burst before has left behind."""
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            before = self.cpu_us()
            time.sleep(0.05)
            if self.cpu_us() - before <= 10_000:
                return

    def last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            return lines[-1][-200:] if lines else "it said nothing"
        return "it said nothing"

    def close(self) -> None:
        """SIGTERM to the top, SIGKILL by id to whatever of the tree is left after a while."""
        tree = self.tree()
        if self.popen.poll() is None:
            if self.popen.stdin is not None:
                self.popen.stdin.close()
            else:
                self.popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(END_SECONDS)
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running():
                    process.kill()
        self.popen.wait()


def ask(port: int, body: bytes, headers: Mapping[str, str]) -> int:
    """One POST; its status, 0 if nobody answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", PATH, body, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return answer.status
    finally:
        connection.close()


def wait_ready(process: Process, port: int, body: bytes, headers: Mapping[str, str]) -> float:
    """Seconds from its start to the first answer. Raises `NotAvailable`."""
    while (status := ask(port, body, headers)) != 200:
        if process.popen.poll() is not None:
            raise NotAvailable(f"it ended: {process.last_words()}")
        if time.perf_counter() - process.started > START_SECONDS:
            raise NotAvailable(
                f"no answer in {START_SECONDS:.0f} s (status {status}): {process.last_words()}"
            )
        time.sleep(0.01)
    return time.perf_counter() - process.started


@contextlib.contextmanager
def running(process: Process) -> Iterator[Process]:
    """End it however the block ends; a second Ctrl-C must not keep us from it."""
    try:
        yield process
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.close()
        finally:
            signal.signal(signal.SIGINT, before)
