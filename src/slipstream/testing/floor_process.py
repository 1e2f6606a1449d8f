"""The processes of a floor measurement: a small server as a child, and which core each of them runs on.

A child prints its port when it serves and ends when its standard input is closed, so that none outlives
whoever started it. It knows nothing of what is measured.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator

from msgspec import Struct

from slipstream.core.errors import Unavailable
from slipstream.testing.lifeline import serve_until_cut
from slipstream.testing.simulator import run_loop

START_SECONDS = 60.0
END_SECONDS = 5.0


class Cores(Struct, frozen=True):
    """Which core runs what; None = wherever the system likes."""

    proxy: int | None = None
    """The one that is measured."""
    upstream: int | None = None
    driver: int | None = None


class Child(Struct, frozen=True):
    """A small server of ours that runs."""

    pid: int
    port: int


def share_out() -> Cores:
    """Cores for a measurement out of those that we may use: the proxy never shares its own.

    With two cores the mock upstream and the driver share the second; with one, or where a process cannot
    be bound to a core, nothing is bound.
    """
    if sys.platform != "linux":
        return Cores()
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return Cores()
    return Cores(proxy=usable[0], upstream=usable[1], driver=usable[min(2, len(usable) - 1)])


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Run the calling thread on one core, and what it starts meanwhile for good; None changes nothing."""
    if core is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.asynccontextmanager
async def child(module: str, *arguments: str, core: int | None = None) -> AsyncIterator[Child]:
    """Run `python -m module arguments` until the block ends.

    Raises `Unavailable` if it does not come up; why stands on standard error.
    """
    pipe = asyncio.subprocess.PIPE
    with on_core(core):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", module, *arguments, stdin=pipe, stdout=pipe
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = b""
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        if not line.strip().isdigit():
            raise Unavailable(f"{module} did not start.", hint="Its standard error says why.")
        yield Child(process.pid, int(line))
    finally:
        process.stdin.close()
        await ended(process, END_SECONDS)
        await process.stdout.read(1024)  # to its end, so that the pipe is closed with it


async def ended(process: asyncio.subprocess.Process, seconds: float) -> None:
    """Wait until a process that was told to end has done so; kill it after `seconds`."""
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def serve_as_child(factory: Callable[[], asyncio.Protocol], port: int = 0) -> int:
    """Be such a child: serve on loopback until standard input is closed; the exit status."""
    with contextlib.suppress(KeyboardInterrupt), run_loop() as runner:
        runner.run(_serve(factory, port))
    return 0


async def _serve(factory: Callable[[], asyncio.Protocol], port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", port, backlog=1024)
    try:
        await serve_until_cut(str(server.sockets[0].getsockname()[1]))
    finally:
        server.close()
