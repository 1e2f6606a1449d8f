"""What the doctor says in a terminal: ids of requests come with the command that opens one."""

import io

from rich.console import Console

from doctor.traffic import asks, evidence, times
from slipstream.cli import run
from slipstream.cli.doctor_report import show
from slipstream.doctor.diagnosis import diagnose
from slipstream.doctor.evidence import Evidence


def said(given: Evidence) -> str:
    out = io.StringIO()
    show(diagnose(given, replays=1), Console(file=out, width=200))
    return out.getvalue()


def test_it_says_how_to_open_a_request_that_it_names() -> None:
    """Once, below the causes, with a command that there is; where no request is named there is nothing to open."""
    ill = said(evidence(asks(200, 10), {"a": times(), "b": times(0.8, 0.04)}))
    well = said(evidence(asks(200, 10), {"a": times(), "b": times()}))

    assert "(replayed-" in ill
    assert ill.count("slipstream profile request ID") == 1
    assert ill.index("cause 1") < ill.index("profile request") < ill.index("ruled out")
    assert run(["profile", "request", "--help"]) == 0
    assert "profile request" not in well
