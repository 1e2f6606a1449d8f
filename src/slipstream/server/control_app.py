"""What the supervisor's Unix socket serves: all pages and admin routes.

Importing this takes up to half a second, so it is done beside the event loop, at the first connection.
"""

from collections.abc import Callable

from starlette.applications import Starlette

from slipstream.config.settings import Settings
from slipstream.dashboard.feed import feed_routes
from slipstream.dashboard.pages import routes
from slipstream.gateway.admin_api import admin_only, control_app
from slipstream.gateway.alerts_api import alert_routes
from slipstream.gateway.doctor_api import doctor_routes
from slipstream.gateway.metrics_api import metric_routes
from slipstream.gateway.profiling_api import profiling_routes
from slipstream.gateway.prometheus import export_routes
from slipstream.server.alert_desk import AlertDesk
from slipstream.server.board import server_board
from slipstream.server.control import ControlState
from slipstream.server.doctor_desk import DoctorDesk
from slipstream.server.measuring import Measuring
from slipstream.server.profile_desk import ProfileDesk
from slipstream.server.recording import Recorder
from slipstream.server.renewal import Renewal


def server_app(
    settings: Settings,
    state: ControlState,
    *,
    measuring: Measuring,
    recorder: Recorder,
    profiles: ProfileDesk,
    alerts: AlertDesk,
    renewal: Renewal,
    doctor: DoctorDesk,
    at_end: Callable[[Callable[[], None]], object],
) -> Starlette:
    """Build it, on the loop; `at_end` is given what is to be called when the server ends."""
    board = server_board(settings, measuring, recorder)
    at_end(board.live.close)
    metrics = metric_routes(measuring.readings, measuring.live.watch)
    exports = export_routes(measuring.readings)
    pages = [*profiling_routes(profiles), *feed_routes(board, admin_only), *routes()]
    desks = [*alert_routes(alerts), *doctor_routes(renewal, doctor)]
    return control_app(state, [*metrics, *exports, *desks, *pages])
