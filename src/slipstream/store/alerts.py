"""Rules, their states, history, silences, messages and marks, in one SQLite file.

One server writes; a second one of the same data folder would share the rules but not the states.
It decides nothing: what is to be stored comes as data, one `Step` a transaction.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from slipstream.core.alert_groups import Alert, Group
from slipstream.core.alerts import RULES_MAX, AlertState, Event, Mark, Rule, Severity, Silence
from slipstream.core.errors import BadRequest, StoreFailed
from slipstream.core.outbox import Message
from slipstream.store import migrations
from slipstream.store.sqlite import Database, Manner
from slipstream.store.values import DAMAGED, Value

SCHEMA = migrations.load("alerts", application_id=0x536C416C)  # "SlAl"
SILENCES_MAX = 1_000
MARKS_MAX = 10_000
ROWS_MAX = 1_000
"""Most rows of one answer."""

T = TypeVar("T")


class Told(Struct, frozen=True):
    """What a receiver was told last of a severity."""

    receiver: str
    severity: Severity
    sent_wall_ns: int
    alerts: dict[str, Alert]


class Step(Struct, frozen=True):
    """What one look at the rules has changed."""

    states: tuple[tuple[Rule, AlertState], ...] = ()
    events: tuple[Event, ...] = ()
    told: tuple[Told, ...] = ()
    messages: tuple[Message, ...] = ()


class AlertStore:
    """The file of the alerts. Safe to use from several threads; every method raises `StoreFailed`.

    Opening creates it, and sets a damaged one aside. Raises `ConfigurationError` for a foreign file.
    """

    def __init__(self, path: Path, *, keep: int = 10_000) -> None:
        self._database = Database(path, SCHEMA, Manner())
        self._keep = keep

    def rules(self) -> list[Rule]:
        """All rules, by owner and name."""
        rows = self._database.rows("SELECT owner, name, condition, severity FROM rules ORDER BY owner, name")
        return [_read(row, Rule) for row in rows]

    def put_rule(self, rule: Rule, wall_ns: int) -> None:
        """Keep a rule, in place of the one of its owner and name. Raises `BadRequest` at `RULES_MAX`."""
        with self._database.transaction():
            if (
                self._database.number(
                    "SELECT count(*) FROM rules WHERE (owner, name) <> (?, ?)", (rule.owner, rule.name)
                )
                >= RULES_MAX
            ):
                raise BadRequest(
                    f"There are {RULES_MAX} rules already.", hint="Delete some.", code="too_many_rules"
                )
            self._put_rule(rule, wall_ns)

    def put_rules_of(self, owner: str, rules: Sequence[Rule], wall_ns: int) -> None:
        """Make these the only rules of an owner."""
        with self._database.transaction():
            names = {rule.name for rule in rules}
            for rule in self.rules():
                if rule.owner == owner and rule.name not in names:
                    self._delete(rule.owner, rule.name)
            for rule in rules:
                self._put_rule(rule, wall_ns)

    def delete_rule(self, owner: str, name: str) -> bool:
        """Forget a rule and its state; whether there was one."""
        with self._database.transaction():
            return self._delete(owner, name)

    def states(self) -> dict[tuple[str, str], AlertState]:
        """Where each rule stands, by owner and name."""
        rows = self._database.rows("SELECT owner, name, state FROM states")
        return {(str(owner), str(name)): _decoded(state, AlertState) for owner, name, state in rows}

    def told(self) -> list[Told]:
        """What receivers were told last."""
        rows = self._database.rows("SELECT receiver, severity, sent_wall_ns, alerts FROM told")
        return [
            Told(str(receiver), _severity(severity), _whole(sent), _decoded(alerts, dict[str, Alert]))
            for receiver, severity, sent, alerts in rows
        ]

    def save(self, step: Step) -> None:
        """Store what a look has changed, all of it or nothing."""
        encode = msgspec.json.encode
        run = self._database.run_many
        with self._database.transaction():
            run(
                "INSERT OR REPLACE INTO states VALUES (?, ?, ?)",
                [(rule.owner, rule.name, encode(state)) for rule, state in step.states],
            )
            run(
                "INSERT INTO history (wall_ns, owner, name, severity, phase, value, condition) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [msgspec.structs.astuple(event)[:-1] for event in step.events],
            )
            run(
                "INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)",
                [
                    (told.receiver, told.severity, told.sent_wall_ns, encode(told.alerts))
                    for told in step.told
                ],
            )
            self._put_messages(step.messages)
            self._prune(history=bool(step.events), outbox=bool(step.messages))

    def history(self, limit: int = 100, *, before_id: int | None = None) -> list[Event]:
        """The latest events, newest first; with `before_id` those before that one."""
        rows = self._database.rows(
            "SELECT wall_ns, owner, name, severity, phase, value, condition, id FROM history "
            "WHERE id < ? ORDER BY id DESC LIMIT ?",
            (2**62 if before_id is None else before_id, min(limit, ROWS_MAX)),
        )
        return [_read(row, Event) for row in rows]

    def silences(self, wall_ns: int) -> list[Silence]:
        """Those that have not expired, the next to end first."""
        rows = self._database.rows(
            "SELECT silence FROM silences WHERE expires_wall_ns > ? ORDER BY expires_wall_ns, id", (wall_ns,)
        )
        return [_decoded(row[0], Silence) for row in rows]

    def put_silence(self, silence: Silence) -> None:
        """Keep a silence, and forget those that expired. Raises `BadRequest` where there are too many."""
        with self._database.transaction():
            self._database.rows("DELETE FROM silences WHERE expires_wall_ns <= ?", (silence.created_wall_ns,))
            if self._database.number("SELECT count(*) FROM silences") >= SILENCES_MAX:
                raise BadRequest(f"There are {SILENCES_MAX} silences already.", hint="End some.")
            self._database.rows(
                "INSERT OR REPLACE INTO silences VALUES (?, ?, ?)",
                (silence.id, silence.expires_wall_ns, msgspec.json.encode(silence)),
            )

    def end_silence(self, silence_id: str) -> bool:
        """Forget a silence; whether there was one."""
        return self._database.run_many("DELETE FROM silences WHERE id = ?", [(silence_id,)]) > 0

    def put_messages(self, messages: Sequence[Message]) -> None:
        """Keep messages as they are now."""
        with self._database.transaction():
            self._put_messages(messages)
            self._prune(outbox=True)

    def messages(self, state: str, limit: int = ROWS_MAX) -> list[Message]:
        """Messages in a state, the newest first."""
        rows = self._database.rows(
            "SELECT message FROM outbox WHERE state = ? ORDER BY created_wall_ns DESC, id LIMIT ?",
            (state, limit),
        )
        return [_decoded(row[0], Message) for row in rows]

    def count(self, state: str) -> int:
        """How many messages are in a state."""
        return self._database.number("SELECT count(*) FROM outbox WHERE state = ?", (state,))

    def message(self, message_id: str) -> Message | None:
        """One message."""
        rows = self._database.rows("SELECT message FROM outbox WHERE id = ?", (message_id,))
        return _decoded(rows[0][0], Message) if rows else None

    def put_mark(self, mark: Mark) -> None:
        """Keep a mark; of too many the oldest goes."""
        with self._database.transaction():
            self._database.rows(
                "INSERT INTO marks (wall_ns, kind, text, author) VALUES (?, ?, ?, ?)",
                (mark.wall_ns, mark.kind, mark.text, mark.author),
            )
            self._database.rows("DELETE FROM marks WHERE id <= (SELECT max(id) FROM marks) - ?", (MARKS_MAX,))

    def marks(self, from_wall_ns: int, to_wall_ns: int) -> list[Mark]:
        """The marks of a range, the newest `ROWS_MAX` of them, oldest first."""
        rows = self._database.rows(
            "SELECT wall_ns, kind, text, author, id FROM marks WHERE wall_ns BETWEEN ? AND ? "
            "ORDER BY wall_ns DESC, id DESC LIMIT ?",
            (from_wall_ns, to_wall_ns, ROWS_MAX),
        )
        return [_read(row, Mark) for row in reversed(rows)]

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _put_rule(self, rule: Rule, wall_ns: int) -> None:
        """A rule whose condition changes begins anew."""
        self._database.rows(
            "DELETE FROM states WHERE (owner, name) = (?1, ?2) AND EXISTS (SELECT 1 FROM rules "
            "WHERE (owner, name) = (?1, ?2) AND condition <> ?3)",
            (rule.owner, rule.name, rule.condition),
        )
        self._database.rows(
            "INSERT INTO rules VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "condition = excluded.condition, severity = excluded.severity",
            (rule.owner, rule.name, rule.condition, rule.severity, wall_ns),
        )

    def _delete(self, owner: str, name: str) -> bool:
        self._database.rows("DELETE FROM states WHERE (owner, name) = (?, ?)", (owner, name))
        return self._database.run_many("DELETE FROM rules WHERE (owner, name) = (?, ?)", [(owner, name)]) > 0

    def _put_messages(self, messages: Sequence[Message]) -> None:
        self._database.run_many(
            "INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?)",
            [(each.id, each.created_wall_ns, each.state, msgspec.json.encode(each)) for each in messages],
        )

    def _prune(self, *, history: bool = False, outbox: bool = False) -> None:
        if history:
            self._database.rows(
                "DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (self._keep,)
            )
        if outbox:
            self._database.rows(
                "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state <> 'waiting' "
                "ORDER BY created_wall_ns DESC LIMIT -1 OFFSET ?)",
                (self._keep,),
            )


def group_of(told: Told, now_ns: int, wall_ns: int) -> Group:
    """What was told, as a group of this process: how long ago is kept, on the monotonic clock."""
    ago_ns = max(0, wall_ns - told.sent_wall_ns)
    return Group(told.receiver, told.severity, told.alerts, sent_ns=now_ns - ago_ns)


def _read(row: tuple[Value, ...], kind: type[T]) -> T:
    try:
        names = [field.name for field in msgspec.structs.fields(kind)]  # type: ignore[arg-type]
        return msgspec.convert(dict(zip(names, row, strict=True)), kind)
    except msgspec.ValidationError as error:
        raise StoreFailed(f"A row of the alerts cannot be read: {error}.", code=DAMAGED) from error


def _decoded(stored: Value, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(stored if isinstance(stored, bytes) else b"", type=kind)
    except msgspec.MsgspecError as error:
        raise StoreFailed(f"A row of the alerts cannot be read: {error}.", code=DAMAGED) from error


def _whole(value: Value) -> int:
    assert isinstance(value, int)
    return value


def _severity(value: Value) -> Severity:
    severity: Severity = msgspec.convert(value, Severity)
    return severity
