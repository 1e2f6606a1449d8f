"""What an alert rule is and how its state moves: inactive, pending, firing, resolved. Pure: no clock, no I/O.

A state survives restarts, because it holds how long something was *watched*, not when it began: time
that nobody watched counts for nothing, so neither a restart nor a clock step makes a rule fire.

    inactive ─true─▶ pending ─true for `for`─▶ firing ─over for `keep`─▶ resolved ─▶ inactive
                        └─ false ─▶ inactive                                └─ true ─▶ pending
"""

import fnmatch
import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

Severity = Literal["info", "warning", "critical"]
NoData = Literal["ok", "keep", "alert"]
"""What an unanswered question means: that all is well, that nothing has changed, or an alert."""

MarkKind = Literal["deploy", "config", "note"]

RESOLVED_NS = 15 * 60 * 1_000_000_000
"""How long a rule is shown as resolved."""

RULES_MAX = 500
"""Most rules of one server."""

SETTINGS_OWNER = "settings"
"""Whose the rules are that stand in the settings."""


class Rule(Struct, frozen=True):
    """A rule as it was given; one per owner and name."""

    owner: str
    name: str
    condition: str
    severity: Severity = "warning"

    @property
    def fingerprint(self) -> str:
        """Short and stable name of its alerts, for receivers that tell alerts apart."""
        return hashlib.sha256(f"{self.owner}\0{self.name}".encode()).hexdigest()[:16]


class Terms(Struct, frozen=True):
    """What the clauses of a condition ask of the state machine."""

    for_ns: int = 0
    keep_ns: int = 0
    no_data: NoData = "ok"


class Answer(Struct, frozen=True):
    """What a condition said once.

    Attributes:
        fires: whether it holds; None = there is no data to say so.
        clears: whether its `clear when` holds, where it has one; None = it cannot be said.
        has_clear: whether it has one.
        value: what was compared, for people.
    """

    fires: bool | None
    value: float | None = None
    has_clear: bool = False
    clears: bool | None = None


class Phase(StrEnum):
    """Where a rule stands."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class AlertState(Struct, frozen=True):
    """A rule's state.

    Attributes:
        phase: where it stands.
        held_ns: how long the way out of this phase was seen to hold, without a break.
        since_wall_ns: when the phase began.
        started_wall_ns: when the latest firing began; 0 = it never fired.
        value: what was compared at the latest look, None without data.
        has_data: whether the latest look found data.
    """

    phase: Phase = Phase.INACTIVE
    held_ns: int = 0
    since_wall_ns: int = 0
    started_wall_ns: int = 0
    value: float | None = None
    has_data: bool = False


def advance(state: AlertState, terms: Terms, answer: Answer, elapsed_ns: int, wall_ns: int) -> AlertState:
    """The state after one look.

    Args:
        state: before it.
        terms: the clauses.
        answer: what the look found.
        elapsed_ns: time watched since the look before; negative counts as none.
        wall_ns: the time of day, for people only.
    """
    elapsed_ns = max(0, elapsed_ns)
    seen = replace(state, value=answer.value, has_data=answer.fires is not None)
    is_true = _is_true(answer.fires, terms)
    match seen.phase:
        case Phase.INACTIVE | Phase.RESOLVED if is_true:
            return _entered(seen, Phase.PENDING if terms.for_ns else Phase.FIRING, wall_ns)
        case Phase.RESOLVED:
            return _held(seen, elapsed_ns, RESOLVED_NS, Phase.INACTIVE, wall_ns)
        case Phase.PENDING if is_true:
            return _held(seen, elapsed_ns, terms.for_ns, Phase.FIRING, wall_ns)
        case Phase.PENDING if is_true is False:
            return _entered(seen, Phase.INACTIVE, wall_ns)
        case Phase.FIRING:
            return _firing(seen, terms, answer, elapsed_ns, wall_ns)
    return seen


def _firing(state: AlertState, terms: Terms, answer: Answer, elapsed_ns: int, wall_ns: int) -> AlertState:
    is_over = _is_over(answer, terms)
    if is_over is None:
        return state
    if not is_over:
        return replace(state, held_ns=0)
    if state.held_ns == 0 and terms.keep_ns:
        return replace(state, held_ns=1)  # its time begins with this look
    return _held(state, elapsed_ns, terms.keep_ns, Phase.RESOLVED, wall_ns)


def _is_true(fires: bool | None, terms: Terms) -> bool | None:
    """Whether the rule holds; None = nothing has changed."""
    if fires is not None:
        return fires
    return {"ok": False, "keep": None, "alert": True}[terms.no_data]


def _is_over(answer: Answer, terms: Terms) -> bool | None:
    """Whether a firing rule is over; None = nothing has changed."""
    said = answer.clears if answer.has_clear else _opposite(answer.fires)
    if said is not None:
        return said
    return {"ok": True, "keep": None, "alert": False}[terms.no_data]


def _opposite(said: bool | None) -> bool | None:
    return None if said is None else not said


def _held(state: AlertState, elapsed_ns: int, needed_ns: int, then: Phase, wall_ns: int) -> AlertState:
    held_ns = state.held_ns + elapsed_ns
    return _entered(state, then, wall_ns) if held_ns >= needed_ns else replace(state, held_ns=held_ns)


def _entered(state: AlertState, phase: Phase, wall_ns: int) -> AlertState:
    started = wall_ns if phase is Phase.FIRING else state.started_wall_ns
    return replace(state, phase=phase, held_ns=0, since_wall_ns=wall_ns, started_wall_ns=started)


class Silence(Struct, frozen=True):
    """Nobody is told of the rules it covers until it ends; they are watched all the same.

    Attributes:
        name: pattern of rule names, `*` and `?` as in file names.
        owner: whose rules; empty = everybody's.
        severity: of which severity; empty = of any.
    """

    id: str
    name: str
    created_wall_ns: int
    expires_wall_ns: int
    owner: str = ""
    severity: Severity | Literal[""] = ""
    author: str = ""
    comment: str = ""

    def covers(self, rule: Rule, wall_ns: int) -> bool:
        """Whether it keeps a rule silent now."""
        return (
            wall_ns < self.expires_wall_ns
            and self.owner in {"", rule.owner}
            and self.severity in {"", rule.severity}
            and fnmatch.fnmatchcase(rule.name, self.name)
        )


class Event(Struct, frozen=True):
    """A rule began or ceased to fire."""

    wall_ns: int
    owner: str
    name: str
    severity: Severity
    phase: Phase
    """What it became."""
    value: str
    """What was compared, with its unit; empty without data."""
    condition: str
    """Expanded, with its defaults."""
    id: int = 0
    """In the order of their happening, once stored."""


class Mark(Struct, frozen=True):
    """A moment that charts show: a deploy, a change of settings, a note."""

    wall_ns: int
    kind: MarkKind
    text: str
    author: str = ""
    id: int = 0


def is_silenced(rule: Rule, silences: Iterable[Silence], wall_ns: int) -> bool:
    """Whether any silence covers a rule now."""
    return any(silence.covers(rule, wall_ns) for silence in silences)
