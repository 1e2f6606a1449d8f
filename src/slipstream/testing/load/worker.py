"""A process that sends one worker's part of a plan: `python -m slipstream.testing.load.worker`.

It is told what to do on standard input and ends when that is closed. A user's script need not be guarded
against being imported, as it is with `multiprocessing`.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys

import msgspec

from slipstream.core import clock
from slipstream.testing.load.columns import Recorder
from slipstream.testing.load.effort import GcPauses
from slipstream.testing.load.orders import GO, LENGTH_BYTES, READY, STOP, Orders, Report, decode
from slipstream.testing.load.run import Stopped
from slipstream.testing.load.sender import HttpSender, Parts
from slipstream.testing.load.worker_report import report_of
from slipstream.testing.simulator import run_loop

WARM_SECONDS = 2.0
WARM_CONNECTIONS = 256
GC_THRESHOLD = 100_000


async def _serve(orders: Orders, lines: asyncio.StreamReader, pauses: GcPauses) -> Report:
    recorder = Recorder(orders.rows_fd, orders.gaps_fd, rows_max=orders.rows_max, gaps_max=orders.gaps_max)
    over: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
    parts = Parts(
        shard=orders.shard,
        target=orders.target,
        options=orders.options,
        recorder=recorder,
        nonce=orders.nonce,
        bytes_max=orders.bytes_max,
        ids_max=orders.ids_max,
    )
    sender = HttpSender(parts, over)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WARM_SECONDS):
            await sender.warm_up(_to_warm(orders))
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    if await lines.readline() != GO:
        sender.stop("requested")
    pauses.reset()
    start = clock.monotonic_ns()
    if not sender.is_ended:
        sender.begin()
    listener = asyncio.create_task(_listen(lines, sender))
    try:
        stopped = await over
    finally:
        listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listener
    ended = clock.monotonic_ns() - start
    await sender.close()
    recorder.close()
    return report_of(
        sender, stopped, ended_ns=ended, pauses=pauses, ids=sender.idents.kept, said=sender.words.kept
    )


def _to_warm(orders: Orders) -> int:
    """A closed loop's connections are opened first; an open loop may need only a few."""
    shard = orders.shard
    wished = 4 if shard.is_open else WARM_CONNECTIONS
    bounds = [wished, *(each for each in (shard.users, shard.requests) if each is not None)]
    return min(bounds)


async def _listen(lines: asyncio.StreamReader, sender: HttpSender) -> None:
    """Stop when told so, or when whoever started us is gone."""
    while True:
        line = await lines.readline()
        if line in {b"", STOP}:
            sender.stop("requested")
            return


async def _main() -> Report:
    lines = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    try:
        length = int.from_bytes(await lines.readexactly(LENGTH_BYTES), "big")
        orders = decode(await lines.readexactly(length))
        if orders.core is not None and sys.platform == "linux":
            os.sched_setaffinity(0, {orders.core})
        pauses = GcPauses()
        try:
            return await _serve(orders, lines, pauses)
        finally:
            pauses.close()
    finally:
        pipe.close()


def main() -> int:
    """The process. Whoever started it decides about Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with run_loop() as runner:
        report = runner.run(_main())
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
