"""The supervisor's side of the doctor: runs `slipstream doctor` as a child, one at a time; shows the ledger.

A diagnosis replays traffic, which takes seconds of CPU: it must not hold the loop that serves pages. What the
child prints is passed on and not understood here: the doctor stands above the server.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from slipstream.core import clock
from slipstream.core.errors import BadRequest, Unavailable
from slipstream.testing.load.quantity import seconds as seconds_of

COMMAND = (sys.executable, "-P", "-m", "slipstream.cli.tethered", "doctor", "--json")
"""The command line, of lower priority and on a lifeline: its standard input."""

LOOK_SECONDS = 600.0
"""The longest that a diagnosis may take; verifying may take three times its length on top of it."""

END_SECONDS = 15.0
"""For the child to take back what it has changed, before it is killed."""

RECOVER_SECONDS = 30.0
"""For another child to take back what one has left that was killed."""

TAKEN_BACK = "What it had changed was taken back."

OUTPUT_BYTES_MAX = 4 * 1024 * 1024
"""A diagnosis has 5 to 20 KB."""

WORDS_BYTES = 8192
"""How much of the end of its standard error is kept."""

LINE_CHARACTERS = 300
SINCE_SECONDS_MAX = 31 * 86_400.0
CAUSES_MAX = 100
VERIFY_SECONDS_MAX = 3600.0
_PIECE = 64 * 1024
_ERROR = "error: "
_log = logging.getLogger(__name__)

VerifyBy = Literal["replay", "live"]
RunState = Literal["idle", "running", "done", "failed", "cancelled"]


class DoctorRun(Struct, frozen=True):
    """What the doctor does for the pages, or did last.

    Attributes:
        number: counts the runs since the server began.
        since: the window it looks at, as it was asked for.
        apply: the cause whose fix is done, None where it only looks.
        expect: the setting that is to be changed, or that with its value: `SETTING=VALUE`.
        at: when it began, seconds since 1970.
        seconds: how long it has taken so far, or took.
        line: what it does now, in its own words.
        result: what it printed: a diagnosis, or what verifying came to (null where that was not asked for).
        error, hint: why there is no result, and what to do.
    """

    state: RunState = "idle"
    number: int = 0
    since: str = ""
    apply: int | None = None
    verify_seconds: float = 0.0
    verify_by: VerifyBy = "replay"
    expect: str = ""
    at: float = 0.0
    seconds: float = 0.0
    line: str = ""
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    hint: str = ""


class Ended(Struct, frozen=True):
    """How a run has ended."""

    state: RunState
    error: str = ""
    hint: str = ""
    result: bytes = b"null"


class DoctorDesk:
    """Runs the doctor.

    Args:
        folders: the server's data and state folders by their setting, in which the child finds this server.
        ledger: reads the ledger; called in a thread. None where nobody here knows how.
        command: of the child; its arguments are appended.
        look_seconds: the longest that a diagnosis may take.
    """

    def __init__(
        self,
        folders: Mapping[str, str],
        ledger: Callable[[], Struct] | None,
        *,
        command: tuple[str, ...] = COMMAND,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._environ = {f"SLIPSTREAM__{name.upper()}": folder for name, folder in folders.items()}
        self._read_ledger = ledger
        self._command = command
        self._look_seconds = look_seconds
        self._run = DoctorRun()
        self._began_ns = 0
        self._heard = _Heard()
        self._process: asyncio.subprocess.Process | None = None
        self._is_taken_back = False
        self._task: asyncio.Task[Ended] | None = None

    def state(self) -> DoctorRun:
        """The run under way, or the last one."""
        if self._run.state != "running":
            return self._run
        return msgspec.structs.replace(self._run, seconds=self._seconds(), line=self._heard.line)

    def start(
        self,
        since: str,
        apply: int | None = None,
        verify_seconds: float = 60.0,
        *,
        verify_by: VerifyBy = "replay",
        expect: str = "",
    ) -> DoctorRun:
        """Look at the last `since`; do the fix of cause `apply` and verify it for so many seconds (0 = not).

        It is verified by made-up requests (`replay`) or by the traffic that is served anyway (`live`).

        Nothing is done where that cause advises anything else than `expect` by then; empty = any.
        Raises `BadRequest` for what cannot be asked, `Unavailable` (409) where it is at work already.
        """
        _check(since, apply, verify_seconds, expect)
        if self._run.state == "running":
            raise Unavailable(
                "The doctor is at work already.",
                hint="Wait until it is done, or cancel it: `DELETE /_slipstream/doctor/run`.",
                code="busy",
                status=409,
            )
        number = self._run.number + 1
        verified = verify_seconds if apply is not None else 0.0
        self._run = DoctorRun(
            "running", number, since, apply, verified, verify_by, expect, clock.wall_ns() / 1e9
        )
        self._began_ns = clock.monotonic_ns()
        self._heard = _Heard()
        self._process = None
        self._is_taken_back = False
        self._task = asyncio.create_task(self._work(), name="doctor")
        self._task.add_done_callback(self._end_run)
        return self.state()

    async def cancel(self) -> DoctorRun:
        """End the run, if one is under way, and return when it has taken back what it had changed."""
        self.stop()
        if self._task is not None:
            await asyncio.wait((self._task,))
        return self.state()

    def stop(self) -> None:
        """Begin to end the run, if one is under way. Once is enough: a second time would not hasten it."""
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    async def ledger(self) -> Struct | None:
        """What was advised and what came of it; None where that cannot be told. Raises `StoreFailed`."""
        return await asyncio.to_thread(self._read_ledger) if self._read_ledger is not None else None

    async def _work(self) -> Ended:
        """One run; how it ended."""
        limit = self._look_seconds + 3 * self._run.verify_seconds
        try:
            status = await self._child(limit)
        except TimeoutError:
            return Ended("failed", f"The doctor took longer than {limit:g} s and was ended.", "Look at less.")
        except OSError as error:
            return Ended("failed", f"The doctor cannot be started: {error.strerror}.", "Is memory short?")
        ended = self._heard.ended(status)
        return msgspec.structs.replace(ended, hint=TAKEN_BACK) if self._is_taken_back else ended

    async def _child(self, limit: float) -> int:
        """Run the child, `limit` seconds at most; its exit status. Raises `TimeoutError`, `OSError`.

        Killed while it applies a fix, it leaves that in force: another child takes it back.
        """
        process = self._process = await self._start_child(_arguments(self._run))
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(limit):
                await asyncio.gather(
                    self._heard.output_of(process.stdout), self._heard.words_of(process.stderr)
                )
                return await process.wait()
        finally:
            await _end(process)
            if self._run.apply is not None and (process.returncode or 0) < 0:
                await self._take_back()

    async def _start_child(self, arguments: list[str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self._environ},
            process_group=0,  # a terminal's Ctrl-C reaches the supervisor only
        )

    async def _take_back(self) -> None:
        """What it says is in the ledger; where it fails, what is to be done stays there, and is shown."""
        with contextlib.suppress(OSError, TimeoutError):
            process = await self._start_child(["--recover"])
            heard = _Heard()
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                async with asyncio.timeout(RECOVER_SECONDS):
                    await asyncio.gather(heard.output_of(process.stdout), heard.words_of(process.stderr))
                    self._is_taken_back = await process.wait() == 0
            finally:
                await _end(process)

    def _end_run(self, task: asyncio.Task[Ended]) -> None:
        """Whatever became of it, the state says it: also of a task that was cancelled before it began."""
        if task.cancelled():
            ended = _given_up(self._run, self._process, is_taken_back=self._is_taken_back)
        elif broken := task.exception():
            _log.error("the doctor's run broke", exc_info=broken)
            ended = Ended("failed", "The doctor's run broke.", "The server's log says how.")
        else:
            ended = task.result()
        self._run = msgspec.structs.replace(
            self._run,
            state=ended.state,
            seconds=self._seconds(),
            line=self._heard.line,
            result=msgspec.Raw(ended.result),
            error=ended.error,
            hint=ended.hint,
        )

    def _seconds(self) -> float:
        return (clock.monotonic_ns() - self._began_ns) / 1e9


class _Heard:
    """What a child has said: all of its output up to the bound, and the end of its words."""

    def __init__(self) -> None:
        self.line = ""
        self._output = bytearray()
        self._words = b""

    async def output_of(self, stdout: asyncio.StreamReader) -> None:
        while piece := await stdout.read(_PIECE):
            self._output += piece[: OUTPUT_BYTES_MAX + 1 - len(self._output)]

    async def words_of(self, stderr: asyncio.StreamReader) -> None:
        while piece := await stderr.read(WORDS_BYTES):
            self._words = (self._words + piece)[-WORDS_BYTES:]
            whole, newline, _ = self._words.rpartition(b"\n")
            lines = [each for each in _plain(whole).splitlines() if each.strip()] if newline else []
            self.line = lines[-1].strip()[:LINE_CHARACTERS] if lines else self.line

    def ended(self, status: int) -> Ended:
        """What a child that ended by itself has come to."""
        if status:
            error, hint = self._error(status)
            return Ended("failed", error, hint)
        if len(self._output) > OUTPUT_BYTES_MAX:
            return Ended("failed", "The doctor said more than fits here.", "`slipstream doctor` says it all.")
        try:
            msgspec.json.decode(self._output)
        except msgspec.MsgspecError:
            return Ended(
                "failed", "What the doctor said is no JSON.", "Try `slipstream doctor` in a terminal."
            )
        return Ended("done", result=bytes(self._output))

    def _error(self, status: int) -> tuple[str, str]:
        """Its last error and the hint below it; otherwise how it ended, and its last line."""
        _, found, said = _plain(self._words).rpartition(_ERROR)
        if found:
            error, _, hint = said.strip().partition("\n")
            return error, " ".join(hint.split())
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"The doctor {how}.", self.line or "Try `slipstream doctor` in a terminal."


def _check(since: str, apply: int | None, verify_seconds: float, expect: str) -> None:
    if not 0 < seconds_of(since) <= SINCE_SECONDS_MAX:
        raise BadRequest("`since` is a window of up to 31 days.", param="since", hint="Such as 15m or 6h.")
    if apply is not None and not 1 <= apply <= CAUSES_MAX:
        raise BadRequest("`apply` is the number of a cause.", param="apply", hint="Such as 1.")
    if not 0 <= verify_seconds <= VERIFY_SECONDS_MAX:
        most = f"{VERIFY_SECONDS_MAX:g}"
        raise BadRequest(
            f"`verify_seconds` is a number from 0 to {most}.", param="verify_seconds", hint="Such as 60."
        )
    if "\0" in expect or "\0" in since:
        raise BadRequest("A name holds no NUL.", hint="`expect` is SETTING or SETTING=VALUE.")


def _arguments(run: DoctorRun) -> list[str]:
    found = [f"--server={os.getpid()}", f"--since={run.since}"]
    if run.apply is not None:
        found += [f"--apply={run.apply}", f"--verify={run.verify_seconds!r}", f"--expect={run.expect}"]
        found.append(f"--verify-by={run.verify_by}")
    return found


def _given_up(run: DoctorRun, process: asyncio.subprocess.Process | None, *, is_taken_back: bool) -> Ended:
    """What is said of a run that was cancelled, and whose process is gone."""
    status = process.returncode if process is not None else None
    if run.apply is None:
        return Ended("cancelled", "Cancelled.", "Nothing was changed.")
    if status == 0:
        return Ended("cancelled", "It was done before it could be cancelled.", "The ledger says how it went.")
    if status == -9 and not is_taken_back:
        return Ended(
            "cancelled",
            f"It did not take back its change within {END_SECONDS:g} s and was killed.",
            "`slipstream doctor --recover` takes it back; the file as it was ends in `.before-doctor`.",
        )
    return Ended("cancelled", "Cancelled.", TAKEN_BACK)


def _plain(words: bytes) -> str:
    """Text without control characters but line ends."""
    text = words.decode("utf-8", "replace")
    return "".join(each for each in text if each.isprintable() or each == "\n")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Terminate a process that still runs, and kill one that does not take that; cut its lifeline."""
    assert process.stdin is not None
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    process.stdin.close()
