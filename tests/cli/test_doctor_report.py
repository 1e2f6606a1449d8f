"""What the doctor says in a terminal: ids of requests come with the command that opens one."""

import io

from msgspec.structs import replace
from rich.console import Console

from doctor.traffic import asks, evidence, times
from slipstream.cli import run
from slipstream.cli.doctor_report import predicted, show, show_verified
from slipstream.doctor.diagnosis import diagnose
from slipstream.doctor.evidence import Evidence
from slipstream.doctor.outcome import Interval, Outcome
from slipstream.doctor.predict import Prediction
from slipstream.doctor.verify import Verified


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


def test_what_requests_cost_is_told_where_prices_are_known() -> None:
    """Of what is expected and of what was verified; where no price is known nothing is made up."""
    dear, cheap = Outcome(0.5, 1.0, 10.0, 0.0, 0.0024), Outcome(0.4, 0.8, 11.0, 0.0, 0.0012)
    unpriced = replace(cheap, cost=None)
    some = Interval(0.1, 0.2)

    def told(after: Outcome) -> str:
        out = io.StringIO()
        console = Console(file=out, width=200)
        show_verified(Verified(dear, after, 0.2, some, 500, 4, True, "Kept."), console)
        for line in predicted(Prediction(dear, after, some, some, some, 0.2, some, 0.01, 500)):
            console.print(line)
        return out.getvalue()

    assert told(cheap).count("$0.0024 -> $0.0012 a request") == 2
    assert "$" not in told(unpriced)
