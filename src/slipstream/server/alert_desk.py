"""What people ask of the alerts: see and change rules, silences and messages, try conditions, set marks.

The routes are the gateway's (`alerts_api`); this knows no HTTP.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence

from msgspec import Struct

from slipstream.core import clock
from slipstream.core.alert_groups import Alert, Notification
from slipstream.core.alerts import Event, Mark, MarkKind, Rule, Silence
from slipstream.core.errors import BadRequest, StoreFailed
from slipstream.core.outbox import Message, again
from slipstream.monitoring.alerts.backtest import Backtest, backtest
from slipstream.monitoring.alerts.evaluator import RuleView, message_of
from slipstream.monitoring.conditions.program import Tested, tested
from slipstream.monitoring.conditions.promql import rule_file
from slipstream.server.alerting import Alerting

NAME_MAX = 100
TEXT_MAX = 500
SILENCE_SECONDS_MAX = 90 * 86400
_OURSELVES = "slipstream"
_RELOAD = "settings reload"
"""Author of the marks that a server sets itself."""


class Overview(Struct, frozen=True):
    """How the alerts do."""

    rules: list[RuleView]
    silences: list[Silence]
    receivers: list[str]
    waiting: int
    """Messages that wait to be delivered."""
    dead: int
    """Messages that were given up."""
    failure: str
    """Why the file cannot be used; empty where it can."""


class AlertDesk:
    """Answers for one server's alerts. Every method raises `BadRequest` and `StoreFailed`."""

    def __init__(self, alerting: Alerting, receivers: Sequence[str]) -> None:
        self._alerting = alerting
        self._receivers = list(receivers)
        self._backtesting = asyncio.Lock()

    async def overview(self) -> Overview:
        """Rules, those that fire first, and how telling goes."""
        now = clock.wall_ns()
        alerting = self._alerting
        silences, dead = [], 0
        if not alerting.failure:
            silences = await alerting.stored(lambda store: store.silences(now))
            dead = await alerting.stored(lambda store: store.count("dead"))
        return Overview(
            alerting.evaluator.views(now),
            silences,
            self._receivers,
            alerting.outbox.waiting,
            dead,
            alerting.failure,
        )

    async def put_rule(self, rule: Rule) -> RuleView:
        """Watch a rule from now on; how it is understood."""
        _require_fit(rule.owner, "owner", NAME_MAX)
        _require_fit(rule.name, "name", NAME_MAX)
        await self._alerting.put_rule(rule)
        views = self._alerting.evaluator.views(clock.wall_ns())
        return next(view for view in views if (view.owner, view.name) == (rule.owner, rule.name))

    async def delete_rule(self, owner: str, name: str) -> None:
        """Watch a rule no more."""
        if not await self._alerting.delete_rule(owner, name):
            raise _unknown("rule", f"{owner}/{name}")

    async def test(self, condition: str) -> Tested:
        """What a condition says now; in a thread, for a window of days is read from a file."""
        return await asyncio.to_thread(tested, condition, self._alerting.slos, self._alerting.readings)

    async def backtest(self, condition: str, start_wall_ns: int, end_wall_ns: int) -> Backtest:
        """What a condition would have done; one at a time, in a thread."""
        async with self._backtesting:
            slos, readings = self._alerting.slos, self._alerting.readings
            return await asyncio.to_thread(backtest, condition, slos, readings, start_wall_ns, end_wall_ns)

    async def test_receiver(self, receiver: str) -> None:
        """Send a test message now. Raises `DeliveryFailed`."""
        if receiver not in self._receivers:
            raise _unknown("receiver", receiver)
        now = clock.wall_ns()
        alert = Alert("0" * 16, "slipstream", "Test", "info", "This is a test.", "", now)
        await self._alerting.delivery.send(
            message_of(Notification(receiver, "info", (alert,), (), "test"), now)
        )

    async def history(self, limit: int, before_id: int | None) -> list[Event]:
        """What fired and ended, newest first."""
        return await self._alerting.stored(lambda store: store.history(limit, before_id=before_id))

    async def put_silence(self, silence: Silence, seconds: float) -> Silence:
        """Keep rules silent for so long; the silence with its id and times."""
        _require_fit(silence.name, "name", NAME_MAX)
        for text, what in (
            (silence.author, "author"),
            (silence.comment, "comment"),
            (silence.owner, "owner"),
        ):
            if text:
                _require_fit(text, what, TEXT_MAX)
        if not 1 <= seconds <= SILENCE_SECONDS_MAX:
            raise BadRequest("A silence lasts from a second to 90 days.", param="seconds")
        now = clock.wall_ns()
        kept = Silence(
            secrets.token_hex(4),
            silence.name,
            now,
            now + int(seconds * 1e9),
            silence.owner,
            silence.severity,
            silence.author,
            silence.comment,
        )
        await self._alerting.put_silence(kept)
        return kept

    async def end_silence(self, silence_id: str) -> None:
        """End a silence now."""
        if not await self._alerting.end_silence(silence_id):
            raise _unknown("silence", silence_id)

    async def messages(self, state: str, limit: int) -> list[Message]:
        """Messages in a state, newest first."""
        return await self._alerting.stored(lambda store: store.messages(state, limit))

    async def send_again(self, message_id: str) -> None:
        """Try a dead message anew."""
        found = await self._alerting.stored(lambda store: store.message(message_id))
        if found is None or found.state != "dead":
            raise _unknown("dead message", message_id)
        self._alerting.outbox.put(again(found))

    async def marks(self, from_wall_ns: int, to_wall_ns: int) -> list[Mark]:
        """The marks of a range, oldest first."""
        return await self._alerting.stored(lambda store: store.marks(from_wall_ns, to_wall_ns))

    async def mark(self, mark: Mark) -> Mark:
        """Keep a mark; one without a time is now."""
        _require_fit(mark.text, "text", TEXT_MAX)
        kept = Mark(mark.wall_ns or clock.wall_ns(), mark.kind, mark.text, mark.author[:NAME_MAX])
        await self._alerting.stored(lambda store: store.put_mark(kept))
        return kept

    async def mark_start(self, version: str, settings: str) -> None:
        """Mark that a server began: a deploy where its version is another than before, else what changed.

        `settings` is their fingerprint.
        """
        now = clock.wall_ns()
        earlier = [mark for mark in await self.marks(0, now) if mark.author == _OURSELVES]
        kind: MarkKind = "note"
        if earlier and version not in earlier[-1].text:
            kind = "deploy"
        elif earlier and settings not in earlier[-1].text:
            kind = "config"
        text = f"started: version {version}, settings {settings}"
        await self._alerting.stored(lambda store: store.put_mark(Mark(now, kind, text, _OURSELVES)))

    async def mark_settings(self, text: str) -> None:
        """Mark that other settings hold from now on; where it cannot be kept, that was told by the alerts."""
        mark = Mark(clock.wall_ns(), "config", text, _RELOAD)
        with contextlib.suppress(StoreFailed):
            await self._alerting.stored(lambda store: store.put_mark(mark))

    def rule_file(self) -> str:
        """All rules as a Prometheus rule file."""
        return rule_file(self._alerting.rules.values(), self._alerting.slos)


def _unknown(what: str, name: str) -> BadRequest:
    return BadRequest(f"There is no {what} {name!r}.", code="not_found", status=404)


def _require_fit(text: str, what: str, longest: int) -> None:
    if not text or len(text) > longest or not text.isprintable() or text != text.strip():
        raise BadRequest(
            f"`{what}` has 1 to {longest} printable characters and no blank at either end.", param=what
        )
