"""`PerformanceAlerts`: rules from a script, watched by the live server, or alone by this process."""

from collections.abc import Mapping
from urllib.parse import urlencode

from msgspec import Struct

from slipstream.config.alerting import Slo
from slipstream.config.live import LiveServer
from slipstream.config.load import load
from slipstream.core.alerts import Event, Rule, Severity
from slipstream.core.errors import BadRequest
from slipstream.core.portal import PORTAL
from slipstream.monitoring import admin
from slipstream.monitoring.alerts.evaluator import RuleView
from slipstream.monitoring.attached import Attachment
from slipstream.monitoring.conditions.parser import parse
from slipstream.monitoring.conditions.program import Tested
from slipstream.monitoring.own_alerts import OWN_ALERTS
from slipstream.monitoring.own_process import on_a_loop

_SEVERITIES = ("info", "warning", "critical")


class _Overview(Struct):
    rules: list[RuleView]


class _Events(Struct):
    data: list[Event]


class PerformanceAlerts:
    """Alert rules, watched each second.

    Beside a live server its rules are stored there under the owner's name, outlive the script, and tell
    the receivers of the server's settings. Alone they are watched in this process, as long as it lives,
    and tell nobody. Nothing is opened before the first use; any thread and event loop may use it.

    Args:
        owner: whose rules these are; a rule's name is its own within its owner's.
        server: URL or process id of the live server that is meant, where there are several.

    Example:
        alerts = PerformanceAlerts()
        alerts.add_alert("High Response Time", "response_time > 5000 for 2m", "critical")
        print([alert.name for alert in alerts.check() if alert.phase == "firing"])
    """

    def __init__(self, owner: str = "app", *, server: str = "") -> None:
        self._owner = owner
        self._attachment = Attachment(server)

    def add_alert(self, name: str, condition: str, severity: Severity = "warning") -> RuleView:
        """Watch a condition, in place of the one of this name: running a script twice changes nothing.

        Returns how it is understood: `.expanded` shows it with all its defaults.
        Raises `ConditionError`, a `BadRequest`, which points at the mistake, and `BadRequest` otherwise.
        """
        if severity not in _SEVERITIES:
            raise BadRequest(f"A severity is one of {', '.join(_SEVERITIES)}.", param="severity")
        server = self._attachment.server()
        if server is None:
            return OWN_ALERTS.put(Rule(self._owner, name, condition, severity), _slos())
        parse(condition)
        body = {"owner": self._owner, "name": name, "condition": condition, "severity": severity}
        return admin.understood(_asked(server, "POST", "alerts/rules", body), RuleView)

    def remove_alert(self, name: str) -> None:
        """Watch a rule of this owner no more. Raises `BadRequest` where there is none of this name."""
        server = self._attachment.server()
        if server is not None:
            _asked(server, "DELETE", "alerts/rules?" + urlencode({"owner": self._owner, "name": name}))
        elif not OWN_ALERTS.delete(self._owner, name):
            raise BadRequest(f"There is no rule {name!r}.", code="not_found", status=404)

    def check(self) -> list[RuleView]:
        """This owner's rules as they stand now, those that fire first; each has `.phase` and `.value`.

        Alone and outside of an event loop it asks them once more, which takes up to a second.
        """
        server = self._attachment.server()
        if server is None:
            found = OWN_ALERTS.views(fresh=not on_a_loop())
        else:
            found = admin.understood(_asked(server, "GET", "alerts"), _Overview).rules
        return [view for view in found if view.owner == self._owner]

    def history(self) -> list[Event]:
        """When this owner's rules began and ceased to fire, newest first; the server's last thousand."""
        server = self._attachment.server()
        if server is None:
            found = OWN_ALERTS.history()
        else:
            found = admin.understood(_asked(server, "GET", "alerts/history?limit=1000"), _Events).data
        return [event for event in found if event.owner == self._owner]

    def test(self, condition: str) -> Tested:
        """What a condition means (`.expanded`) and says now (`.fires`, None without data; `.value`).

        Nothing is stored. Raises `ConditionError`.
        """
        server = self._attachment.server()
        if server is None:
            return OWN_ALERTS.test(condition, _slos(), fresh=not on_a_loop())
        parse(condition)
        return admin.understood(_asked(server, "POST", "alerts/test", {"condition": condition}), Tested)


def _slos() -> Mapping[str, Slo]:
    return load().slo


def _asked(server: LiveServer, method: str, path: str, body: object = None) -> bytes:
    return PORTAL.call(admin.request(server, method, path, body), timeout=admin.ANSWER_SECONDS + 5)
