"""The dashboard of a server: on the supervisor's metrics and records."""

from slipstream.config import paths
from slipstream.config.settings import Settings
from slipstream.dashboard.board import Board
from slipstream.server.measuring import Measuring
from slipstream.server.recording import Recorder
from slipstream.store.tiles import TileStore


def server_board(settings: Settings, measuring: Measuring, recorder: Recorder) -> Board:
    """The dashboard; it tells its viewers after each look at the metrics."""
    recorded = settings.record.enabled
    board = Board(
        lambda question: question(measuring.readings),
        TileStore(paths.tiles_path(settings)),
        requests=(lambda page: recorder.page(page.limit, page.before, page.where)) if recorded else None,
        dropped=measuring.viewer_dropped,
        alerts=settings.alerts.enabled,
    )
    measuring.each_second(board.live.tell)
    return board
