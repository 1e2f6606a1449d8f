"""Asks the rules and decides who is told: synchronous, of readings and the time. One of it in a server.

It stores nothing and sends nothing: a look returns what has changed, as data.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from slipstream.config.alerting import Alerts, Slo
from slipstream.core.alert_groups import Alert, Group, Notification, Timing, tell
from slipstream.core.alerts import AlertState, Event, Phase, Rule, Severity, Silence, advance, is_silenced
from slipstream.core.errors import SlipstreamError
from slipstream.core.outbox import Message
from slipstream.core.readings import Readings
from slipstream.monitoring.alerts import payloads
from slipstream.monitoring.alerts.delivery import ALERT, receivers_of
from slipstream.monitoring.conditions.program import Program, compiled

WATCHED_NS_MAX = 10_000_000_000
"""Most that one look counts as watched beyond its own pace: a server that stood still has seen nothing."""
SAVE_NS = 5_000_000_000
"""How often the progress of `for` and `keep` is stored."""
_LOOKS_PER_WINDOW = 600


class Look(Struct, frozen=True):
    """What one look has changed, and what is to be sent."""

    states: tuple[tuple[Rule, AlertState], ...] = ()
    events: tuple[Event, ...] = ()
    told: tuple[Group, ...] = ()
    messages: tuple[Message, ...] = ()
    errors: int = 0
    """Conditions that could not be asked."""


class RuleView(Struct, frozen=True):
    """A rule as people see it."""

    owner: str
    name: str
    severity: Severity
    condition: str
    expanded: str
    phase: Phase
    value: str
    """What was compared at the latest look, with its unit; empty without data."""
    has_data: bool
    since_wall_ns: int
    started_wall_ns: int
    silenced: bool
    error: str
    """Why it cannot be asked; empty where it can."""


class _Watch:
    """One rule that is watched."""

    __slots__ = ("asked_ns", "error", "pace_ns", "program", "rule", "saved", "saved_ns", "state")

    def __init__(self, rule: Rule, state: AlertState, slos: Mapping[str, Slo]) -> None:
        self.rule = rule
        self.state = state
        self.saved: AlertState | None = None
        self.asked_ns: int | None = None
        self.saved_ns = 0
        self.error = ""
        self.program: Program | None = None
        self.pace_ns = 0
        try:
            self.program = compiled(rule.condition, slos)
            self.pace_ns = self.program.window_seconds * 1_000_000_000 // _LOOKS_PER_WINDOW
        except SlipstreamError as error:  # of an older version, or an objective that left the settings
            self.error = str(error)

    def alert(self) -> Alert:
        """What receivers are told of it while it fires."""
        rule, program = self.rule, self.program
        return Alert(
            rule.fingerprint,
            rule.owner,
            rule.name,
            rule.severity,
            program.expanded if program else rule.condition,
            program.shown(self.state.value) if program else "",
            self.state.started_wall_ns,
        )


class Evaluator:
    """All rules of a server and where they stand.

    Args:
        settings: routes and waits.
        slos: the objectives that conditions may ask of.
    """

    def __init__(self, settings: Alerts, slos: Mapping[str, Slo]) -> None:
        self._settings = settings
        self._slos = slos
        self._timing = Timing(
            int(settings.wait_seconds * 1e9),
            int(settings.interval_seconds * 1e9),
            int(settings.repeat_seconds * 1e9),
        )
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._groups: dict[tuple[str, Severity], Group] = {}
        self._silences: tuple[Silence, ...] = ()

    def restore(self, groups: Iterable[Group]) -> None:
        """Take up what receivers were told before a restart."""
        for group in groups:
            if group.receiver in receivers_of(self._settings, group.severity):
                self._groups[group.receiver, group.severity] = group

    def set_rules(
        self, rules: Sequence[Rule], states: Mapping[tuple[str, str], AlertState] | None = None
    ) -> None:
        """Watch these and no others. A rule whose condition stays the same stays where it stands.

        With `states` they begin where those say, whatever they did before.
        """
        watches: dict[tuple[str, str], _Watch] = {}
        for rule in rules:
            key = rule.owner, rule.name
            known = self._watches.get(key)
            if states is not None:
                watches[key] = _Watch(rule, states.get(key, AlertState()), self._slos)
            elif known is not None and known.rule.condition == rule.condition:
                known.rule = rule
                watches[key] = known
            else:
                watches[key] = _Watch(rule, AlertState(), self._slos)
        self._watches = watches

    def end(self, owner: str, name: str, wall_ns: int) -> Event | None:
        """Watch a rule no more; the end of its firing, where it fires."""
        watch = self._watches.pop((owner, name), None)
        if watch is None or watch.state.phase is not Phase.FIRING:
            return None
        watch.state = replace(watch.state, phase=Phase.RESOLVED)
        return _event(watch, wall_ns)

    def set_silences(self, silences: Iterable[Silence]) -> None:
        """From now on these keep rules silent, until each expires."""
        self._silences = tuple(silences)

    def look(self, readings: Readings, now_ns: int, wall_ns: int) -> Look:
        """Ask every rule that is due, once. `now_ns` is monotonic."""
        states, events, errors = [], [], 0
        for watch in self._watches.values():
            before = watch.state.phase
            errors += not self._ask(watch, readings, now_ns, wall_ns)
            if _must_save(watch, now_ns):
                watch.saved, watch.saved_ns = watch.state, now_ns
                states.append((watch.rule, watch.state))
            after = watch.state.phase
            if after is not before and Phase.FIRING in {before, after}:
                events.append(_event(watch, wall_ns))
        told, messages = self._tell(now_ns, wall_ns)
        return Look(tuple(states), tuple(events), tuple(told), tuple(messages), errors)

    def views(self, wall_ns: int) -> list[RuleView]:
        """All rules, those that fire first."""
        order = [Phase.FIRING, Phase.PENDING, Phase.RESOLVED, Phase.INACTIVE]
        found = [self._view(watch, wall_ns) for watch in self._watches.values()]
        return sorted(found, key=lambda view: (order.index(view.phase), view.owner, view.name))

    def firing(self) -> dict[Severity, int]:
        """How many rules fire, by severity."""
        counts: dict[Severity, int] = {"info": 0, "warning": 0, "critical": 0}
        for watch in self._watches.values():
            counts[watch.rule.severity] += watch.state.phase is Phase.FIRING
        return counts

    def _ask(self, watch: _Watch, readings: Readings, now_ns: int, wall_ns: int) -> bool:
        """One question; whether it could be asked."""
        if watch.program is None:
            return True  # was told when it was compiled
        passed_ns = now_ns - watch.asked_ns if watch.asked_ns is not None else None
        if passed_ns is not None and passed_ns < watch.pace_ns:
            return True
        try:
            answer = watch.program.ask(readings)
        except SlipstreamError as error:
            watch.error = str(error)
            return False
        watch.error = ""
        watch.asked_ns = now_ns
        elapsed_ns = min(passed_ns or 0, watch.pace_ns + WATCHED_NS_MAX)
        watch.state = advance(watch.state, watch.program.terms, answer, elapsed_ns, wall_ns)
        return True

    def _tell(self, now_ns: int, wall_ns: int) -> tuple[list[Group], list[Message]]:
        firing: dict[Severity, dict[str, Alert]] = {"info": {}, "warning": {}, "critical": {}}
        silenced: set[str] = set()
        ended: dict[str, int] = {}
        for watch in self._watches.values():
            fingerprint = watch.rule.fingerprint
            if watch.state.phase is Phase.FIRING and watch.program is not None:
                firing[watch.rule.severity][fingerprint] = watch.alert()
            else:
                ended[fingerprint] = watch.state.since_wall_ns
            if is_silenced(watch.rule, self._silences, wall_ns):
                silenced.add(fingerprint)
        told, messages = [], []
        for severity, alerts in firing.items():
            for receiver in receivers_of(self._settings, severity):
                before = self._groups.get((receiver, severity)) or Group(receiver, severity, {})
                after, notification = tell(
                    before, alerts, silenced, now_ns, timing=self._timing, wall_ns=wall_ns
                )
                self._groups[receiver, severity] = after
                if notification is not None:
                    told.append(after)
                    message = self._message(notification, ended, wall_ns)
                    messages += [message] if message is not None else []
        return told, messages

    def _message(self, notification: Notification, ended: Mapping[str, int], wall_ns: int) -> Message | None:
        """What is sent; None where the receiver does not want to hear of ends."""
        resolved = tuple(
            replace(alert, ended_wall_ns=ended.get(alert.fingerprint, wall_ns))
            for alert in notification.resolved
        )
        if not self._settings.receivers[notification.receiver].resolved:
            resolved = ()
        if not resolved and not notification.firing:
            return None
        return message_of(replace(notification, resolved=resolved), wall_ns)

    def _view(self, watch: _Watch, wall_ns: int) -> RuleView:
        alert, rule, state = watch.alert(), watch.rule, watch.state
        return RuleView(
            owner=rule.owner,
            name=rule.name,
            severity=rule.severity,
            condition=rule.condition,
            expanded=alert.condition,
            phase=state.phase,
            value=alert.value,
            has_data=state.has_data,
            since_wall_ns=state.since_wall_ns,
            started_wall_ns=state.started_wall_ns,
            silenced=is_silenced(rule, self._silences, wall_ns),
            error=watch.error,
        )


def message_of(notification: Notification, wall_ns: int) -> Message:
    """A notification as a message to be delivered."""
    return Message(
        secrets.token_hex(8),
        ALERT,
        notification.receiver,
        payloads.subject(notification),
        msgspec.json.encode(notification),
        created_wall_ns=wall_ns,
    )


def _event(watch: _Watch, wall_ns: int) -> Event:
    alert, rule = watch.alert(), watch.rule
    return Event(
        wall_ns, rule.owner, rule.name, rule.severity, watch.state.phase, alert.value, alert.condition
    )


def _must_save(watch: _Watch, now_ns: int) -> bool:
    if watch.saved is None or watch.state.phase is not watch.saved.phase:
        return True
    has_moved = watch.state.held_ns != watch.saved.held_ns
    is_underway = watch.state.phase in {Phase.PENDING, Phase.FIRING}
    return has_moved and is_underway and now_ns - watch.saved_ns >= SAVE_NS
