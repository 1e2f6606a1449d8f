"""Does what was advised: one setting in the file, taken by the server as it serves, verified, written down.

Whatever goes wrong on the way, the file and the server are as they were. The file before stays beside it.
"""

import asyncio
import contextlib
import signal
import threading
import tomllib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from slipstream.config import paths
from slipstream.config.load import load
from slipstream.config.settings import Settings
from slipstream.core import clock
from slipstream.core.errors import BadRequest, ConfigurationError, SlipstreamError, StoreFailed
from slipstream.core.record import Record
from slipstream.doctor.diagnosis import Cause, Diagnosis
from slipstream.doctor.doctor import Doctor, recorded
from slipstream.doctor.driver import drive
from slipstream.doctor.evidence import Evidence
from slipstream.doctor.finding import Fix
from slipstream.doctor.one_at_a_time import alone
from slipstream.doctor.outcome import Took
from slipstream.doctor.rehearsal import asked_of
from slipstream.doctor.replay_model import Asked
from slipstream.doctor.setting_file import BEFORE, Change
from slipstream.doctor.verify import By, Verified, compare, ensure_enough
from slipstream.doctor.verify_live import compare_live
from slipstream.monitoring import admin
from slipstream.monitoring.summary import Summary
from slipstream.store.ledger import Entry, LedgerStore, State

COST_LOOKS, COST_LOOK_SECONDS = 20, 0.1
"""How long the records of made-up requests are waited for, which say what those cost."""


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
    if seconds and by == "replay":
        ensure_enough(asked_of(evidence), seconds)
    held = view.settings
    ledger = paths.ledger_path(held)
    with alone(ledger), contextlib.closing(LedgerStore(ledger)) as store:
        if store.unfinished():
            raise ConfigurationError(
                "An earlier fix was interrupted and may still be in force.",
                hint="`slipstream doctor --recover` takes it back.",
            )
        change = Change(server, Path(view.file), fix, view.settings)
        told(f"cause {number}: {cause.finding.cause}")
        before = f"the file before: *{BEFORE}" if change.file_before else "there is no such file yet"
        told(f"{fix.setting} = {fix.after} (now {fix.before}) in {view.file}; {before}")
        if change.row.written:
            told("the file lacks that upstream: what the server has of it is written with it")
        is_priced = any(flow.record.cost is not None for flow in evidence.flows)
        verifying = _Verifying(by, asked_of(evidence), held, change, told, is_priced)
        begun = _begun(cause, change)
        return _tried(store, begun, change, lambda: _applied(change, verifying, seconds, told))


def _tried(
    store: LedgerStore,
    begun: Entry,
    change: Change,
    work: Callable[[], Coroutine[None, None, Verified | None]],
) -> Verified | None:
    """Do the work; its row stands before anything is changed, so that a process that is killed leaves it.

    Broken off with its change taken back, nothing has come of it, and the row goes; where it could not be
    taken back, the row stays for `recover`.
    """
    row = store.add(begun)
    is_written = False
    try:
        done = asyncio.run(_heeding_signals(work()))
        store.replace(row, _ended(begun, done))
        is_written = True
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        if not is_written:
            with contextlib.suppress(StoreFailed):  # what broke it off is told, not this
                _broken_off(store, row, begun, change)
    return done


def _broken_off(store: LedgerStore, row: int, begun: Entry, change: Change) -> None:
    """What the ledger says of a fix that was not kept, and not judged."""
    if change.note and (change.is_out or change.is_theirs):
        state: State = "interrupted" if change.is_theirs else "rolled back"
        note = f"Somebody changed the file meanwhile; {change.note}"
        store.replace(row, replace(begun, state=state, wall_ns=clock.wall_ns(), note=note))
    elif change.is_out:
        store.remove(row)


def expected(found: Diagnosis, number: int, expect: str) -> None:
    """Raise `BadRequest` where cause `number` does not advise what was seen in an earlier look.

    `expect` is `SETTING=VALUE`, or the setting alone; then any value will do.
    """
    cause = next((each for each in found.causes if each.number == number), None)
    fix = cause.advice.fix if cause is not None and cause.advice is not None else None
    if fix is None or not fix.setting:
        advised = "nothing"
    elif _is_expected(fix, expect):
        return
    else:
        advised = f"`{fix.setting}={fix.after}`"
    raise BadRequest(
        f"Cause {number} does not advise `{expect}`: it advises {advised}.",
        param="expect",
        hint="Nothing was changed. Look again, and expect what is advised now.",
    )


def _is_expected(fix: Fix, expect: str) -> bool:
    name, value = expect.strip(), ""
    if name.startswith(fix.setting):  # a name in quotes may hold a `=` itself
        rest = name[len(fix.setting) :].lstrip()
        if not rest:
            return True
        value = rest[1:].strip() if rest[0] == "=" else ""
    try:
        return tomllib.loads(f"x = {value}") == tomllib.loads(f"x = {fix.after}")  # 0.10 is 0.1
    except tomllib.TOMLDecodeError:
        return False


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
    is_priced: bool
    """Whether the records say what requests cost."""

    async def __call__(self, seconds: float) -> Verified:
        change = self.change
        if self.by == "replay":
            self.told(f"applied; now {seconds:g} s of made-up load, with and without it in turn")
            return await compare(self.asked, seconds, change.switch, self._driven)
        self.told(f"applied; now {seconds:g} s of live traffic, with and without it in turn")
        return await compare_live(seconds, change.switch, self._recorded, self._oldest, self.told)

    async def _driven(self, stretch: Sequence[Asked]) -> list[Took]:
        """What a stretch has met; with what it cost, where prices are known."""
        begun_ns = clock.wall_ns()
        met = await drive(self.change.server, stretch)
        if not self.is_priced:
            return met
        costs: dict[str, float | None] = {}
        for _ in range(COST_LOOKS):
            costs = {each.id: each.cost for each in await self._recorded(begun_ns, clock.wall_ns())}
            if all(each.request in costs for each in met if each.is_served):
                break
            await asyncio.sleep(COST_LOOK_SECONDS)
        return [replace(each, cost=costs.get(each.request)) for each in met]

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


def _begun(cause: Cause, change: Change) -> Entry:
    told = cause.advice.prediction if cause.advice is not None else None
    return replace(
        change.row,
        kind=cause.finding.check,
        subject=cause.finding.subject,
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
    )


def _ended(begun: Entry, done: Verified | None) -> Entry:
    state: State = "applied" if done is None else "kept" if done.is_kept else "rolled back"
    if done is None or not done.is_told:  # too few requests: no numbers
        return replace(begun, state=state, wall_ns=clock.wall_ns())
    return replace(
        begun,
        state=state,
        wall_ns=clock.wall_ns(),
        without_p50=done.without.p50,
        without_p95=done.without.p95,
        without_throughput=done.without.throughput,
        without_cost=done.without.cost,
        actual_p50=done.with_fix.p50,
        actual_p95=done.with_fix.p95,
        actual_throughput=done.with_fix.throughput,
        actual_cost=done.with_fix.cost,
        actual_gain=done.gain,
        actual_low=done.gain_interval.low,
        actual_high=done.gain_interval.high,
    )
