"""A real `slipstream serve` of its own in front of an upstream on loopback, with default settings.

Its files lie in a temporary folder; the user's settings, keys and records are neither read nor touched.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from msgspec import Struct

from slipstream.config.live import live_servers
from slipstream.config.paths import records_path
from slipstream.config.settings import Settings
from slipstream.core import clock
from slipstream.core.errors import Unavailable
from slipstream.core.record import Record
from slipstream.store.records import PAGE_MAX, RecordFilter, RecordStore
from slipstream.testing.floor_process import ended, on_core

START_SECONDS = 60.0
END_SECONDS = 15.0
PAGES_MAX = 10
_LOOK_SECONDS = 0.02


class Gateway(Struct, frozen=True):
    """A gateway that serves."""

    pid: int
    """Of the supervisor; the workers are its children."""
    port: int
    folder: Path


@contextlib.contextmanager
def gateway_folder(upstream_port: int, models: Sequence[str]) -> Iterator[Path]:
    """A folder with the settings of a gateway that serves `models` from one upstream."""
    with tempfile.TemporaryDirectory(prefix="ssf-") as name:
        folder = Path(name)
        (folder / "s").mkdir(mode=0o700)
        listed = ", ".join(f'"{model}"' for model in models)
        (folder / "slipstream.toml").write_text(
            f'data_folder = "{folder / "data"}"\nstate_folder = "{folder / "s"}"\n'
            '[log]\nlevel = "warning"\n[models.local]\nenabled = "off"\n[models.embedder]\nenabled = "off"\n'
            f'[models.upstreams.floor]\nurl = "http://127.0.0.1:{upstream_port}/v1"\nmodels = [{listed}]\n',
            encoding="utf-8",
        )
        yield folder


@contextlib.asynccontextmanager
async def run_gateway(folder: Path, *, core: int | None = None) -> AsyncIterator[Gateway]:
    """Run `slipstream serve` with the settings in `folder`, on a free port, until the block ends.

    Raises `Unavailable` with what it said if it does not come up.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLIPSTREAM")}
    config = str(folder / "slipstream.toml")
    command = [sys.executable, "-P", "-m", "slipstream", "--config", config, "serve", "--port", "0"]
    log = folder / "serve.log"
    with log.open("wb") as output, on_core(core):
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield Gateway(process.pid, await _serving(process, folder, log), folder)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await ended(process, END_SECONDS)


def records_of(gateway: Gateway, model: str) -> list[Record]:
    """What it wrote down of the requests for `model` that were served; the newest 10,000 at most.

    Call it when the gateway has ended: then all is written.
    """
    store = RecordStore(records_path(_settings(gateway.folder)))
    try:
        where = RecordFilter(model=model, outcome="served")
        found: list[Record] = []
        for _ in range(PAGES_MAX):
            page = store.recent(PAGE_MAX, before=found[-1].id if found else "", where=where)
            found.extend(page)
            if len(page) < PAGE_MAX:
                break
        return found
    finally:
        store.close()


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and all its children have taken so far."""
    process = psutil.Process(pid)
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system
    return total


async def _serving(process: asyncio.subprocess.Process, folder: Path, log: Path) -> int:
    """The port, once a worker serves there."""
    deadline = clock.monotonic_ns() + int(START_SECONDS * 1e9)
    port = 0
    while clock.monotonic_ns() < deadline and process.returncode is None:
        if not port and (found := live_servers(_settings(folder))):
            port = urlsplit(found[0].url).port or 0
        if port and await _is_ready(port):
            return port
        await asyncio.sleep(_LOOK_SECONDS)
    raise Unavailable("The gateway to be measured did not start.", hint=_tail(log))


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()[-500:]


async def _is_ready(port: int) -> bool:
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in line


def _settings(folder: Path) -> Settings:
    return Settings(data_folder=str(folder / "data"), state_folder=str(folder / "s"))
