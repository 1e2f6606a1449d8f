"""Does what was advised: one setting in the file, taken by the server as it serves, verified, written down.

Whatever goes wrong on the way, the file and the server are as they were. The file before stays beside it.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from slipstream.config import paths
from slipstream.config.edit import with_value
from slipstream.config.live import LiveServer
from slipstream.config.load import load
from slipstream.config.settings import Settings
from slipstream.core import clock
from slipstream.core.errors import BadRequest, ConfigurationError, SlipstreamError
from slipstream.core.record import Record
from slipstream.doctor.diagnosis import Cause, Diagnosis
from slipstream.doctor.doctor import Doctor, recorded
from slipstream.doctor.driver import drive
from slipstream.doctor.evidence import Evidence
from slipstream.doctor.finding import Fix
from slipstream.doctor.predict import asked_of
from slipstream.doctor.replay_model import Asked
from slipstream.doctor.verify import By, Verified, compare
from slipstream.doctor.verify_live import compare_live
from slipstream.monitoring import admin
from slipstream.monitoring.summary import Summary
from slipstream.server.renewal import Renewed
from slipstream.store.ledger import Entry, LedgerStore, State

LOCK = "doctor.lock"

BEFORE = ".before-doctor"
"""What the name of the file before ends in."""

RELOAD_SECONDS = 600.0
"""Longest wait for the server to take settings: the embedded model may have to load anew."""

SETTLE_SECONDS = 0.3
"""From when the server has taken settings until its workers surely have."""


def apply(
    doctor: Doctor,
    evidence: Evidence,
    found: Diagnosis,
    number: int,
    *,
    seconds: float,
    by: By = "replay",
    told: Callable[[str], None],
) -> Verified | None:
    """Apply the fix of cause `number`, verify it for `seconds` (0 = not), keep it or take it back.

    Raises `BadRequest` where there is no such cause or nothing to apply, `ConfigurationError` where the
    setting cannot be changed while the server serves. None = it was not verified.
    """
    cause = next((each for each in found.causes if each.number == number), None)
    if cause is None:
        raise BadRequest(f"There is no cause {number}.", hint=f"Found: {len(found.causes)}.")
    fix = cause.advice.fix if cause.advice is not None else None
    if fix is None or not fix.setting or not fix.is_live:
        said = fix.text if fix is not None else "nothing is advised"
        raise BadRequest(
            f"Cause {number} has no setting that a running server takes.", hint=f"Advised: {said}."
        )
    settings = load()
    server, view = doctor.live(settings), doctor.view(settings)
    if server is None or view is None or not view.file:
        raise ConfigurationError("No server is running here that could take the setting.")
    change = Change(server, Path(view.file), fix)
    told(f"cause {number}: {cause.finding.cause}")
    told(f"{fix.setting} = {fix.after} (now {fix.before}) in {view.file}; the file before: *{BEFORE}")
    verifying = _Verifying(by, asked_of(evidence), view.settings, change, told)
    ledger = paths.ledger_path(settings)
    with _alone(ledger.with_name(LOCK)):
        try:
            done = asyncio.run(_heeding_signals(_applied(change, verifying, seconds, told)))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        _write_down(ledger, cause, fix, done)
    return done


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One fix at a time on this data folder, or both would measure the other's."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError("Another fix is being applied.", hint="Wait until it is done.") from None
        yield
    finally:
        os.close(descriptor)  # and with it the lock, as when the process ends


def expected(found: Diagnosis, number: int, setting: str) -> None:
    """Raise `BadRequest` where cause `number` advises another setting: it was seen in an earlier look."""
    cause = next((each for each in found.causes if each.number == number), None)
    advised = cause.advice.fix.setting if cause is not None and cause.advice is not None else ""
    if advised != setting:
        raise BadRequest(
            f"Cause {number} does not advise `{setting}` any more.", hint="Nothing was changed; look again."
        )


class Change:
    """One setting in the file of a live server, put in and taken out."""

    def __init__(self, server: LiveServer, file: Path, fix: Fix) -> None:
        self.server = server
        self._file = file
        self._fix = fix
        self._was_there = file.is_file()
        self._before = self._written = file.read_text("utf-8") if self._was_there else ""
        self._after = with_value(self._before, fix.setting, fix.after)
        self._is_in = False

    async def put_in(self) -> None:
        """Write the setting and have the server take it. Raises `ConfigurationError` where that is no use."""
        if self._is_in:
            return
        beside = self._file.with_name(self._file.name + BEFORE)
        self._check()
        if self._was_there:
            _write(beside, self._before, self._file)
        _write(self._file, self._after, self._file)
        self._written = self._after
        self._is_in = True
        renewed = await self._reload()
        if self._fix.setting in renewed.refused:
            await self.take_out()
            raise ConfigurationError(f"The server cannot take `{self._fix.setting}` now. {renewed.why}")
        if self._fix.setting not in renewed.taken:
            await self.take_out()
            raise ConfigurationError(
                f"The server does not take `{self._fix.setting}` from {self._file.name}.",
                hint="A flag or a variable sets it too: `slipstream config explain` says which.",
            )

    async def take_out(self) -> None:
        """The file as it was, and the server with it."""
        if not self._is_in:
            return
        self._check()
        if self._was_there:
            _write(self._file, self._before, self._file)
        else:
            self._file.unlink(missing_ok=True)
        self._written = self._before
        renewed = await self._reload()
        self._is_in = False  # not before: interrupted here, the server is told once more
        if self._fix.setting in renewed.refused:
            raise ConfigurationError(
                f"`{self._fix.setting}` stands in the file as it was, and the server cannot take it back now."
                f" {renewed.why}",
                hint="It is taken with the next reload or restart.",
            )

    def _check(self) -> None:
        """Nobody else's line is written over: what stands in the file must be what we left there."""
        found = self._file.read_text("utf-8") if self._file.is_file() else ""
        if found != self._written:
            self._is_in = False
            raise ConfigurationError(
                f"{self._file.name} was changed meanwhile, and is left as it is.",
                hint=f"`{self._fix.setting}` was {self._fix.before} before: see what stands there now.",
            )

    async def switch(self, is_fixed: bool) -> None:
        """Put it in or take it out."""
        await (self.put_in() if is_fixed else self.take_out())

    async def _reload(self) -> Renewed:
        said = await admin.request(self.server, "POST", "settings/reload", seconds=RELOAD_SECONDS)
        await asyncio.sleep(SETTLE_SECONDS)
        return admin.understood(said, Renewed)


async def _heeding_signals(work: Coroutine[None, None, Verified | None]) -> Verified | None:
    """Do it; a termination or a hang-up cancels it as Ctrl-C does, so that what was changed is taken back."""
    task = asyncio.current_task()
    assert task is not None
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(each, task.cancel)
    return await work


class _Verifying(Struct, frozen=True):
    """How a fix is verified: which requests, of whose records, and what is told meanwhile."""

    by: By
    asked: Sequence[Asked]
    settings: Settings
    change: Change
    told: Callable[[str], None]

    async def __call__(self, seconds: float) -> Verified:
        change = self.change
        if self.by == "replay":
            self.told(f"applied; now {seconds:g} s of made-up load, with and without it in turn")
            return await compare(
                self.asked, seconds, change.switch, lambda stretch: drive(change.server, stretch)
            )
        self.told(f"applied; now {seconds:g} s of live traffic, with and without it in turn")
        return await compare_live(seconds, change.switch, self._recorded, self._oldest, self.told)

    async def _recorded(self, since_wall_ns: int, until_wall_ns: int) -> list[Record]:
        return await asyncio.to_thread(recorded, self.settings, since_wall_ns, until_wall_ns)

    async def _oldest(self) -> float:
        said = await admin.request(self.change.server, "GET", "metrics/summary?fresh=1")
        return (admin.understood(said, Summary).oldest_in_flight or 0.0) / 1e3


async def _applied(
    change: Change, verifying: _Verifying, seconds: float, told: Callable[[str], None]
) -> Verified | None:
    is_settled = False
    try:
        await change.put_in()
        if not seconds:
            told("applied, and not verified")
            is_settled = True
            return None
        done = await verifying(seconds)
        await change.switch(done.is_kept)
        is_settled = True
        return done
    finally:
        if not is_settled:
            with contextlib.suppress(OSError, SlipstreamError):  # what broke it off is told, not this
                await change.take_out()


def _write(path: Path, text: str, like: Path) -> None:
    """Replace a file as a whole, with the rights of `like`: a reader sees the old or the new.

    Raises `ConfigurationError` where it cannot be replaced.
    """
    path = path.resolve()  # a link stays one
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    mode = like.stat().st_mode & 0o777 if like.is_file() else 0o644
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"{path.name} cannot be replaced: {error.strerror}.",
            hint="Its folder must be writable, and the file no mount of its own.",
        ) from None
    finally:
        fresh.unlink(missing_ok=True)


def _write_down(path: Path, cause: Cause, fix: Fix, done: Verified | None) -> None:
    told = cause.advice.prediction if cause.advice is not None else None
    state: State = "applied" if done is None else "kept" if done.is_kept else "rolled back"
    if done is not None and not done.is_told:
        done = None  # too few requests: no numbers
    entry = Entry(
        wall_ns=clock.wall_ns(),
        kind=cause.finding.check,
        subject=cause.finding.subject,
        setting=fix.setting,
        before=fix.before,
        after=fix.after,
        state=state,
        now_p50=told.now.p50 if told else None,
        now_p95=told.now.p95 if told else None,
        now_throughput=told.now.throughput if told else None,
        now_cost=told.now.cost if told else None,
        predicted_p50=told.then.p50 if told else None,
        predicted_p95=told.then.p95 if told else None,
        predicted_throughput=told.then.throughput if told else None,
        predicted_cost=told.then.cost if told else None,
        predicted_gain=told.gain if told else None,
        gain_low=told.gain_interval.low if told else None,
        gain_high=told.gain_interval.high if told else None,
        actual_p50=done.with_fix.p50 if done else None,
        actual_p95=done.with_fix.p95 if done else None,
        actual_throughput=done.with_fix.throughput if done else None,
        actual_cost=done.with_fix.cost if done else None,
        actual_gain=done.gain if done else None,
        actual_low=done.gain_interval.low if done else None,
        actual_high=done.gain_interval.high if done else None,
    )
    store = LedgerStore(path)
    try:
        store.add(entry)
    finally:
        store.close()
