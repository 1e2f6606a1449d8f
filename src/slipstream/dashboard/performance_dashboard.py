"""`PerformanceDashboard`: what a script wants to see and be told of, on the live server's page or its own.

Nothing is opened before the first use; any thread and event loop may use it.
"""

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from slipstream.config.live import LiveServer
from slipstream.core.alerts import Severity
from slipstream.core.portal import PORTAL
from slipstream.core.tile import Tile, checked
from slipstream.dashboard.board import shown
from slipstream.dashboard.numbers import Numbers, Seen, numbers
from slipstream.monitoring import admin
from slipstream.monitoring.alerts.evaluator import RuleView
from slipstream.monitoring.attached import Attachment
from slipstream.monitoring.own_process import OWN_PROCESS
from slipstream.monitoring.performance_alerts import PerformanceAlerts
from slipstream.store.tiles import TileStore

if TYPE_CHECKING:
    from slipstream.dashboard.alone import AloneServer


class Snapshot(Struct, frozen=True):
    """All numbers of the dashboard at one moment.

    Attributes:
        at: seconds of the wall clock.
        source: `server`, or `process` where this process is alone.
        numbers: ours first, then what was added.
        alerts: this owner's rules as they stand.
    """

    at: float
    source: str
    numbers: list[Seen]
    alerts: list[RuleView]

    def __getitem__(self, key: str) -> float | None:
        """The value by title or by metric."""
        for seen in self.numbers:
            if key in {seen.title, seen.metric}:
                return seen.value
        raise KeyError(key)

    def __str__(self) -> str:
        return "\n".join(str(seen) for seen in self.numbers)


class PerformanceDashboard:
    """The dashboard of the assistant.

    Beside a live server what is added is stored there under the owner's name, outlives the script and is
    on the server's page. Alone it is on a page that this process serves of its own numbers.

    Args:
        owner: whose metrics and alerts these are; a title is its own within its owner's. It is not that of
            `PerformanceAlerts`, whose rules of the same names may have another severity.
        server: URL or process id of the live server that is meant, where there are several.

    Every method raises `ConfigurationError` where several servers live and none is named.

    Example:
        dashboard = PerformanceDashboard()
        dashboard.add_metric("Response Time", "response_time", "ms")
        dashboard.add_alert("High Response Time", "response_time > 5000")
        print(dashboard.serve(), dashboard.snapshot(), sep="\\n")
    """

    def __init__(self, owner: str = "dashboard", *, server: str = "") -> None:
        self._owner = owner
        self._attachment = Attachment(server)
        self._alerts = PerformanceAlerts(owner, server=server)

    def add_metric(self, title: str, name: str, unit: str = "") -> None:
        """Show a metric under a title, in place of this owner's of the same title.

        `name` is a declared metric (`/_slipstream/metrics/names`), read as a bare condition on it would be;
        `unit` is shown behind it, empty: the metric's own. Raises `BadRequest` for a name that is none.
        """
        tile = checked(Tile(title, name, unit, self._owner))
        server = self._attachment.server()
        if server is None:
            _OWN_TILES.put(tile)
        else:
            _asked(server, "POST", "dashboard/tiles", tile)

    def remove_metric(self, title: str) -> bool:
        """Show it no more; whether there was one of this title."""
        server = self._attachment.server()
        if server is None:
            return _OWN_TILES.remove(self._owner, title)
        asked = urlencode({"owner": self._owner, "title": title})
        return bool(msgspec.json.decode(_asked(server, "DELETE", f"dashboard/tiles?{asked}"))["removed"])

    def add_alert(self, title: str, condition: str, severity: Severity = "warning") -> RuleView:
        """Watch a condition, as `PerformanceAlerts.add_alert` does. Raises `BadRequest`."""
        return self._alerts.add_alert(title, condition, severity)

    def serve(self, port: int = 0) -> str:
        """The page's URL: the live server's, else that of a page which this process serves from now on.

        A server that asks for keys opens it to whoever has logged in by its one-time link. `port` is that
        of the own page; 0 picks a free one. Raises `ConfigurationError` for one that is taken.
        """
        server = self._attachment.server()
        if server is not None:
            return f"{server.url.rstrip('/')}/dashboard"
        from slipstream.dashboard.alone import AloneServer

        global _alone
        if _alone is None:
            _alone = AloneServer(_OWN_TILES)
        return _alone.serve(port)

    def close(self) -> None:
        """Serve the own page no more."""
        if _alone is not None:
            _alone.close()

    def snapshot(self) -> Snapshot:
        """All numbers now; `snapshot["cpu_usage"]` is one of them."""
        server = self._attachment.server()
        if server is None:
            now = _own_now()
        else:
            now = admin.understood(_asked(server, "GET", "dashboard/now"), Numbers)
        return Snapshot(now.at, now.source, now.numbers, self._alerts.check())


_OWN_TILES = TileStore(None)
_alone: "AloneServer | None" = None


def _own_now() -> Numbers:
    tiles = shown(_OWN_TILES.all())
    return OWN_PROCESS.read(lambda readings: numbers(readings, tiles, "process"))


def _asked(server: LiveServer, method: str, path: str, body: object = None) -> bytes:
    return PORTAL.call(admin.request(server, method, path, body), timeout=admin.ANSWER_SECONDS + 5)
