"""The parts of the supervisor that announce how they do."""

from slipstream.core.use import USE
from slipstream.server.alerting import Alerting
from slipstream.server.measuring import Measuring
from slipstream.server.recording import Recorder
from slipstream.server.stalling import ProcessStalls


def announce_parts(
    measuring: Measuring, recorder: Recorder, alerting: Alerting, stalls: ProcessStalls
) -> None:
    """Let each of them have its row; asked on the supervisor's loop."""
    USE.announce("event loop", lambda: measuring.loop_row(stalls.count))
    if recorder.enabled:
        USE.announce("record writer", recorder.use)
    USE.announce("alerts outbox", alerting.outbox.use)
