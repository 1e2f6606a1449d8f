"""The rules of a process where no server lives: asked each second of its own readings, kept in memory.

Nobody is told; whoever wants to know asks. The thread begins with the first rule.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Mapping

from slipstream.config.alerting import Alerts, Slo
from slipstream.core import clock
from slipstream.core.alerts import RULES_MAX, Event, Rule
from slipstream.core.errors import BadRequest, Unavailable
from slipstream.core.readings import Readings
from slipstream.monitoring.alerts.evaluator import Evaluator, RuleView
from slipstream.monitoring.conditions.program import Tested, compiled, tested
from slipstream.monitoring.own_process import OWN_PROCESS, TICK_SECONDS

HISTORY_MAX = 1_000
_log = logging.getLogger(__name__)


class OwnAlerts:
    """All rules of this process. Any thread may use it; a forked child begins without any."""

    _evaluator: Evaluator | None

    def __init__(self) -> None:
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def put(self, rule: Rule, slos: Mapping[str, Slo]) -> RuleView:
        """Watch a rule, in place of the one of its owner and name. Raises `BadRequest`."""
        compiled(rule.condition, slos)
        key = rule.owner, rule.name
        with self._lock:
            if key not in self._rules and len(self._rules) >= RULES_MAX:
                raise BadRequest(f"There are {RULES_MAX} rules already.", hint="Delete some.")
            if self._evaluator is None:
                self._evaluator = Evaluator(Alerts(), slos)
                threading.Thread(target=self._run, name="slipstream-alerts", daemon=True).start()
            self._rules[key] = rule
            self._evaluator.set_rules(list(self._rules.values()))
            return next(view for view in self._views() if (view.owner, view.name) == key)

    def delete(self, owner: str, name: str) -> bool:
        """Watch a rule no more; whether there was one."""
        with self._lock:
            found = self._rules.pop((owner, name), None) is not None
            if self._evaluator is not None:
                self._evaluator.set_rules(list(self._rules.values()))
            return found

    def views(self, *, fresh: bool) -> list[RuleView]:
        """All rules as they stand; `fresh` asks them once more, and waits for that up to two seconds."""
        if self._evaluator is not None and fresh:
            self._look(fresh=True)
        with self._lock:
            return self._views()

    def history(self) -> list[Event]:
        """What fired and ended, newest first; the last `HISTORY_MAX`."""
        with self._lock:
            return list(reversed(self._events))

    def test(self, condition: str, slos: Mapping[str, Slo], *, fresh: bool) -> Tested:
        """What a condition says of this process now. Raises `ConditionError`."""
        return OWN_PROCESS.read(lambda readings: tested(condition, slos, readings), fresh=fresh)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._rules: dict[tuple[str, str], Rule] = {}
        self._evaluator = None
        self._events: deque[Event] = deque(maxlen=HISTORY_MAX)

    def _views(self) -> list[RuleView]:
        return self._evaluator.views(clock.wall_ns()) if self._evaluator is not None else []

    def _run(self) -> None:
        pause, is_told = threading.Event(), False
        while not pause.wait(TICK_SECONDS):
            try:
                self._look(fresh=False)
                is_told = False
            except Unavailable as error:
                if not is_told:
                    _log.error("alerts are not watched for now. %s", error)
                is_told = True

    def _look(self, *, fresh: bool) -> None:
        for event in OWN_PROCESS.read(self._asked, fresh=fresh):
            _log.warning("%s: %s (%s)", event.phase.value, event.name, event.value or "no data")

    def _asked(self, readings: Readings) -> tuple[Event, ...]:
        with self._lock:  # after the readings' own lock, never before it
            if self._evaluator is None:
                return ()
            found = self._evaluator.look(readings, clock.monotonic_ns(), clock.wall_ns())
            self._events.extend(found.events)
            return found.events


OWN_ALERTS = OwnAlerts()
"""The one of this process."""
