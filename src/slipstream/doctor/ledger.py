"""How right the doctor was: its advice by class, predicted beside actual. Pure, but for `read`.

A class with a bad record is marked so, wherever its advice is shown.
"""

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from slipstream.doctor.one_at_a_time import looking
from slipstream.store.ledger import Entry, LedgerStore

EMPTY = (
    "The ledger is empty. `slipstream doctor --apply N`, or “Apply and verify” on the page /doctor, fills it:"
    " each fix that is done is written down, as predicted and as it came."
)

JUDGED_MIN = 3
"""With fewer verified advices a class has no record."""

HIT_RATE_MIN = 0.5
ERROR_MAX = 0.3


class Score(Struct, frozen=True):
    """The record of one class of advice.

    Attributes:
        count: advices that were acted on and verified.
        hits: share of them whose fix was kept: it gained, beyond chance.
        error: median of |predicted - actual|, of what was to be left of the p95, as a share of what was left.
            Both are beside the p95 without the fix under the same load: the load that verifies is another one
            than the recorded.
        coverage: share whose actual gain lay in the predicted 90 % interval.
        is_bad: it is kept too seldom, or is too far off.
    """

    kind: str
    count: int
    hits: float
    error: float
    coverage: float
    is_bad: bool

    def __str__(self) -> str:
        if self.count < JUDGED_MIN:
            times = "once" if self.count == 1 else f"{self.count} times"
            return f"verified {times} so far: too few to have a record"
        told = (
            f"right in {self.hits:.0%} of {self.count} times, p95 off by {self.error:.0%} in the middle,"
            f" {self.coverage:.0%} within the interval"
        )
        return f"BAD RECORD: {told}" if self.is_bad else told


def scores(entries: Sequence[Entry]) -> dict[str, Score]:
    """The record of each class with a verified advice."""
    verified: dict[str, list[Entry]] = {}
    for entry in entries:
        if _is_verified(entry):
            verified.setdefault(entry.kind, []).append(entry)
    return {kind: _score(kind, given) for kind, given in sorted(verified.items())}


class Ledger(Struct, frozen=True):
    """All that was acted on, newest first, and how right it was.

    Attributes:
        scores: the record of each class, by name.
        overall: of all classes together; None before anything was verified.
        said: the same in a sentence; where the ledger is empty, what fills it.
        interrupted: what is to be done of a fix whose process died while it was tried; empty where none did.
    """

    entries: tuple[Entry, ...]
    scores: tuple[Score, ...]
    overall: Score | None
    said: str
    interrupted: str = ""


def read(path: Path) -> Ledger:
    """The ledger in a file, empty where there is none; makes none. Raises `StoreFailed`."""
    if not path.is_file():
        return summed(())
    with looking(path) as is_idle, contextlib.closing(LedgerStore(path)) as store:
        return summed(store.entries(), is_idle=is_idle)


def summed(entries: Sequence[Entry], *, is_idle: bool = True) -> Ledger:
    """Entries with their scores. `is_idle`: nobody applies one now, so what is not over was interrupted."""
    verified = [each for each in entries if _is_verified(each)]
    overall = _score("all", verified) if verified else None
    left = [each for each in entries if each.state == "applying"] if is_idle else []
    told = f"{_interrupted(left[0])} " if left else ""
    said = _said(entries, overall)
    return Ledger(tuple(entries), tuple(scores(entries).values()), overall, told + said, told.strip())


def _interrupted(entry: Entry) -> str:
    at = datetime.fromtimestamp(entry.wall_ns / 1e9, UTC).astimezone()
    return (
        f"A fix of {at:%d %b %H:%M} was interrupted: `{entry.setting} = {entry.after}` (before:"
        f" {entry.before}) may still be in force. `slipstream doctor --recover` takes it back."
    )


def _said(entries: Sequence[Entry], overall: Score | None) -> str:
    if not entries:
        return EMPTY
    told = {"kept": "kept", "rolled back": "rolled back", "applied": "applied and not verified"}
    told |= {"interrupted": "interrupted", "applying": "not over"}
    counts = {state: sum(each.state == state for each in entries) for state in told}
    parts = ", ".join(f"{count} {told[state]}" for state, count in counts.items() if count)
    fixes = "1 fix was" if len(entries) == 1 else f"{len(entries)} fixes were"
    record = f" Together: {overall}." if overall is not None and overall.count >= JUDGED_MIN else ""
    return f"{fixes} acted on: {parts}.{record}"


def reputation(entries: Sequence[Entry]) -> Mapping[str, str]:
    """What is said of each class beside its advice."""
    return {kind: str(score) for kind, score in scores(entries).items()}


def _is_verified(entry: Entry) -> bool:
    return entry.actual_gain is not None and entry.predicted_gain is not None


def _score(kind: str, entries: Sequence[Entry]) -> Score:
    hits = statistics.fmean(each.state == "kept" for each in entries)
    errors = [
        abs(each.predicted_gain - each.actual_gain) / max(1e-9, 1.0 - each.actual_gain)
        for each in entries
        if each.predicted_gain is not None and each.actual_gain is not None
    ]
    inside = [
        each.gain_low <= (each.actual_gain or 0.0) <= each.gain_high
        for each in entries
        if each.gain_low is not None and each.gain_high is not None
    ]
    error = statistics.median(errors) if errors else 0.0
    is_bad = len(entries) >= JUDGED_MIN and (hits < HIT_RATE_MIN or error > ERROR_MAX)
    return Score(kind, len(entries), hits, error, statistics.fmean(inside) if inside else 0.0, is_bad)
