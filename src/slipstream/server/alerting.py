"""The supervisor's side of alerts: one look a second, stored and delivered beside it.

Looks are synchronous and quick; what they change goes to the file in a thread. A file that cannot be
written is counted and tried again: rules are watched and receivers told all the same.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from slipstream.config.settings import Settings
from slipstream.core import clock
from slipstream.core.alerts import RULES_MAX, SETTINGS_OWNER, AlertState, Phase, Rule, Silence
from slipstream.core.errors import BadRequest, ConfigurationError, StoreFailed
from slipstream.core.outbox import Message
from slipstream.core.readings import Readings
from slipstream.monitoring.alerts.delivery import ALERT, Delivery, check
from slipstream.monitoring.alerts.evaluator import Evaluator, Look
from slipstream.monitoring.conditions.program import compiled
from slipstream.monitoring.meter import Meter
from slipstream.server.outbox import Outbox
from slipstream.store.alerts import AlertStore, Step, Told, group_of

SAVE_AGAIN_SECONDS = 5.0
UNSAVED_MAX = 2_000
"""Most changes that wait for a file that cannot be written; beyond it the oldest are dropped and counted."""
T = TypeVar("T")
_log = logging.getLogger(__name__)


class _Kept(Struct, frozen=True):
    """What a file holds that is taken up at the start."""

    rules: list[Rule]
    states: dict[tuple[str, str], AlertState]
    told: list[Told]
    silences: list[Silence]
    waiting: list[Message]


class Alerting:
    """All alerts of one server.

    Attributes:
        evaluator: the rules and where they stand.
        outbox: what waits to be delivered.
        delivery: the way to receivers.
        readings: what conditions are asked of.
        slos: the objectives of the settings.
        rules: all rules, by owner and name.

    Args:
        path: the file.
        settings: rules, receivers, objectives, the mail server.
        readings: what conditions are asked of.
        meter: where alerts are counted.
        url: where the server is reached, for links.

    Raises `ConfigurationError` for receivers and rules of the settings that cannot work.
    """

    def __init__(self, path: Path, settings: Settings, readings: Readings, meter: Meter, *, url: str) -> None:
        alerts = settings.alerts
        check(alerts, settings.mail)
        self.readings = readings
        self.slos = settings.slo
        self.rules: dict[tuple[str, str], Rule] = {}
        self.evaluator = Evaluator(alerts, settings.slo)
        self.delivery = Delivery(alerts, settings.mail, (alerts.url or url).rstrip("/"))
        self.outbox = Outbox(
            {ALERT: self.delivery.send},
            self._message_changed,
            meter,
            limit=alerts.outbox,
            keep_seconds=alerts.delivery_hours * 3600,
        )
        self._path = path
        self._settings = alerts
        self._given = _rules_of(settings)
        self._meter = meter
        self._store: AlertStore | None = None
        self._unsaved: list[Step] = []
        self._changed = asyncio.Event()
        self._failure = ""
        self._is_closed = False
        self._writing: asyncio.Task[None] | None = None

    @property
    def failure(self) -> str:
        """Why the file cannot be used now; empty where it can."""
        return self._failure

    def health(self) -> dict[str, object]:
        """How the alerts do: their file, what fires, what waits to be told."""
        return {
            "healthy": not self._failure,
            "detail": self._failure,
            "enabled": self._settings.enabled,
            "rules": len(self.rules),
            "firing": sum(self.evaluator.firing().values()),
            "waiting": self.outbox.waiting,
        }

    async def start(self) -> None:
        """Open the file and take up where the server before this one stopped.

        Raises `ConfigurationError` for a file that is not ours; one that cannot be read is survived.
        """
        self.rules = {(rule.owner, rule.name): rule for rule in self._given}
        self.evaluator.set_rules(self._given)
        try:
            await self._open()
        except StoreFailed as error:
            self._failed(error)
            self._changed.set()  # it is tried again

    def look(self) -> None:
        """Ask all rules once; for whoever reads the metrics each second."""
        if not self._settings.enabled or self._is_closed:
            return
        found = self.evaluator.look(self.readings, clock.monotonic_ns(), clock.wall_ns())
        self._count(found)
        for message in found.messages:
            self.outbox.put(message)
        if found.states or found.events or found.told:
            self._save(_step(found))

    async def run(self) -> None:
        """Store and deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.outbox.run())
            tasks.create_task(self._save_changes())

    async def aclose(self) -> None:
        """Store what is not stored yet; nothing is asked any more."""
        self._is_closed = True
        if self._store is None:
            return
        try:
            if self._writing is not None:
                await asyncio.gather(self._writing, return_exceptions=True)  # what failed is tried once more
            await self._write()
            await asyncio.to_thread(self._store.close)
        except StoreFailed as error:
            _log.error("alerts were not stored: %s", error)

    async def stored(self, work: Callable[[AlertStore], T]) -> T:
        """Do something with the file, in a thread. Raises `StoreFailed`."""
        store = self._store
        if store is None:
            raise StoreFailed(f"The alerts' file cannot be used: {self._failure}")
        return await asyncio.to_thread(work, store)

    async def put_rule(self, rule: Rule) -> None:
        """Watch a rule, in place of the one of its owner and name. Raises `BadRequest`, `StoreFailed`."""
        program = compiled(rule.condition, self.slos)
        if rule.owner == SETTINGS_OWNER:
            raise BadRequest(
                "Rules of the settings are changed there.", hint="Give it another owner.", param="owner"
            )
        await self.stored(lambda store: store.put_rule(rule, clock.wall_ns()))
        await asyncio.to_thread(program.ask, self.readings)  # what it needs of a file is read here
        self.rules[rule.owner, rule.name] = rule
        self.evaluator.set_rules(list(self.rules.values()))
        self.look()

    async def delete_rule(self, owner: str, name: str) -> bool:
        """Watch a rule no more; whether there was one. Raises `BadRequest`, `StoreFailed`."""
        if owner == SETTINGS_OWNER:
            raise BadRequest("Rules of the settings are changed there.", param="owner")
        found = await self.stored(lambda store: store.delete_rule(owner, name))
        self.rules.pop((owner, name), None)
        ended = self.evaluator.end(owner, name, clock.wall_ns())
        self.evaluator.set_rules(list(self.rules.values()))
        if ended is not None:
            self._save(Step(events=(ended,)))
        return found

    async def put_silence(self, silence: Silence) -> None:
        """Keep rules silent. Raises `BadRequest`, `StoreFailed`."""
        await self.stored(lambda store: store.put_silence(silence))
        await self._renew_silences()

    async def end_silence(self, silence_id: str) -> bool:
        """End a silence; whether there was one. Raises `StoreFailed`."""
        found = await self.stored(lambda store: store.end_silence(silence_id))
        await self._renew_silences()
        return found

    async def _renew_silences(self) -> None:
        now = clock.wall_ns()
        self.evaluator.set_silences(await self.stored(lambda store: store.silences(now)))

    async def _open(self) -> None:
        store, kept = await asyncio.to_thread(self._read)
        now_ns, wall_ns = clock.monotonic_ns(), clock.wall_ns()
        self._store = store
        self.rules = {(rule.owner, rule.name): rule for rule in kept.rules}
        self.evaluator.set_rules(kept.rules, kept.states)
        self.evaluator.restore([group_of(told, now_ns, wall_ns) for told in kept.told])
        self.evaluator.set_silences(kept.silences)
        self.outbox.restore(kept.waiting)

    def _read(self) -> tuple[AlertStore, _Kept]:
        """In a thread: what the file holds, after the settings' rules were put into it."""
        store = AlertStore(self._path, keep=self._settings.history)
        wall_ns = clock.wall_ns()
        store.put_rules_of(SETTINGS_OWNER, self._given, wall_ns)
        kept = _Kept(
            store.rules(), store.states(), store.told(), store.silences(wall_ns), store.messages("waiting")
        )
        return store, kept

    def _count(self, found: Look) -> None:
        for event in found.events:
            if event.phase is Phase.FIRING:
                self._meter.count("alerts_fired", event.severity)
            _log.warning("%s: %s (%s)", event.phase.value, event.name, event.value or "no data")
        if found.errors:
            self._meter.count("alert_errors", by=found.errors)
        for severity, count in self.evaluator.firing().items():
            self._meter.set("alerts_firing", count, severity)

    def _message_changed(self, message: Message) -> None:
        self._save(Step(messages=(message,)))

    def _save(self, step: Step) -> None:
        self._unsaved.append(step)
        if len(self._unsaved) > UNSAVED_MAX:
            del self._unsaved[0]
            self._meter.count("alert_errors")
        self._changed.set()

    async def _save_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                if self._store is None:
                    await self._open()
                self._writing = asyncio.create_task(self._write())
                await asyncio.shield(self._writing)  # half a cancelled one would be stored twice
            except StoreFailed as error:
                self._failed(error)
                await asyncio.sleep(SAVE_AGAIN_SECONDS)
                self._changed.set()
            else:
                self._failure = ""

    async def _write(self) -> None:
        """Everything that has changed, in one transaction."""
        steps, self._unsaved = self._unsaved, []
        if not steps or self._store is None:
            return
        is_saved = False
        try:
            await asyncio.to_thread(self._store.save, _joined(steps))
            is_saved = True
        finally:
            if not is_saved:
                self._unsaved = [*steps, *self._unsaved]

    def _failed(self, error: StoreFailed) -> None:
        if not self._failure:
            _log.error("alerts are not stored: %s", error)
        self._meter.count("alert_errors")
        self._failure = str(error)


def _step(found: Look) -> Step:
    """What a look has changed, as it is stored."""
    wall_ns = clock.wall_ns()
    return Step(
        states=found.states,
        events=found.events,
        told=tuple(Told(each.receiver, each.severity, wall_ns, each.told) for each in found.told),
    )


def _joined(steps: Sequence[Step]) -> Step:
    return Step(
        tuple(each for step in steps for each in step.states),
        tuple(each for step in steps for each in step.events),
        tuple(each for step in steps for each in step.told),
        tuple(each for step in steps for each in step.messages),
    )


def _rules_of(settings: Settings) -> list[Rule]:
    """The rules that stand in the settings. Raises `ConfigurationError` for one that cannot be understood."""
    given = settings.alerts.rules
    if len(given) > RULES_MAX:
        raise ConfigurationError(f"`alerts.rules` has {len(given)} rules; at most {RULES_MAX} are watched.")
    for name, each in given.items():
        try:
            compiled(each.condition, settings.slo)
        except BadRequest as error:
            raise ConfigurationError(
                f"`alerts.rules.{name}.condition`: {error.message}", hint=error.hint.strip()
            ) from error
    return [Rule(SETTINGS_OWNER, name, each.condition, each.severity) for name, each in given.items()]
