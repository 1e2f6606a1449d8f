"""The worker processes of a run, seen from the engine: started, sent off, stopped, heard out."""

import asyncio
import contextlib
import os
import sys

import msgspec

from slipstream.core.errors import Unavailable
from slipstream.testing.floor_process import ended
from slipstream.testing.load.columns import Reading, gaps_size, rows_size, shared_file
from slipstream.testing.load.orders import GO, READY, STOP, Orders, Report, encode
from slipstream.testing.load.outcome import Left

START_SECONDS = 90.0
"""A worker that dies says so at once; one that waits for its turn on a busy machine is waited for."""
END_SECONDS = 10.0
REPORT_BYTES = 64 * 1024 * 1024
LOG_BYTES = 4096


class Worker:
    """One of them. Build it with `start`."""

    def __init__(self, process: asyncio.subprocess.Process, reading: Reading) -> None:
        self._process = process
        self._last_words = b""
        self.reading = reading
        self.report: Report | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The last line that it wrote to standard error."""
        lines = self._last_words.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def left(self) -> Left:
        """What there is of it, once it was heard out."""
        return Left(self.reading, self.report, self.last_words)

    async def ready(self) -> None:
        """Wait until it could begin. Raises `Unavailable`, with its last words, if it cannot."""
        assert self._process.stdout is not None
        line = b""
        why = "it ended and said nothing"
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS)
        except TimeoutError:
            why = f"it was not ready after {START_SECONDS:g} s"
        if line != READY:
            self.kill()
            await self._hear_errors()
            raise Unavailable(
                f"A load worker did not start: {self.last_words or why}.",
                hint="Its standard error says why; fewer workers or requests need less memory.",
            )

    def go(self) -> None:
        """Begin."""
        self._tell(GO)

    def stop(self) -> None:
        """End now."""
        self._tell(STOP)

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(line)

    async def hear(self) -> None:
        """Wait for its report; none if it died."""
        assert self._process.stdout is not None
        errors = asyncio.create_task(self._hear_errors())
        try:
            line = await self._process.stdout.readline()
            with contextlib.suppress(msgspec.MsgspecError):
                self.report = msgspec.json.decode(line, type=Report)
            await errors
        finally:
            errors.cancel()

    async def _hear_errors(self) -> None:
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(LOG_BYTES):
            self._last_words = (self._last_words + piece)[-LOG_BYTES:]

    def kill(self) -> None:
        """End it by force; harmless if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """Make sure that it is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await ended(self._process, END_SECONDS)


async def start(orders: Orders) -> Worker:
    """A worker process with its orders; `rows_fd` and `gaps_fd` in them are filled in here."""
    rows_fd = shared_file(rows_size(orders.rows_max))
    gaps_fd = shared_file(gaps_size(orders.gaps_max))
    try:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "slipstream.testing.load.worker",
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            pass_fds=(rows_fd, gaps_fd),
            limit=REPORT_BYTES,
        )
        reading = Reading(rows_fd, gaps_fd, rows_max=orders.rows_max, gaps_max=orders.gaps_max)
    finally:
        for each in (rows_fd, gaps_fd):
            os.close(each)
    assert process.stdin is not None
    process.stdin.write(encode(msgspec.structs.replace(orders, rows_fd=rows_fd, gaps_fd=gaps_fd)))
    return Worker(process, reading)
