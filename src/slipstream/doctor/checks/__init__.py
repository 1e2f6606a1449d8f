"""The checks, one file each: pure functions of the evidence. A new one is a file and a row here."""

from collections.abc import Callable

from slipstream.doctor.checks import blocked_loop, retry_storm, slow_upstream, small_cap, starved_local
from slipstream.doctor.evidence import Evidence
from slipstream.doctor.finding import Finding, RuledOut

Check = Callable[[Evidence], Finding | RuledOut]

CHECKS: tuple[Check, ...] = (
    slow_upstream.check,
    small_cap.check,
    blocked_loop.check,
    retry_storm.check,
    starved_local.check,
)


def examined(evidence: Evidence) -> tuple[tuple[Finding, ...], tuple[RuledOut, ...]]:
    """What every check says: the causes, the one that explains most first, and what is ruled out."""
    said = [check(evidence) for check in CHECKS]
    found = [each for each in said if isinstance(each, Finding)]
    ruled_out = [each for each in said if isinstance(each, RuledOut)]
    return tuple(sorted(found, key=lambda each: -each.share)), tuple(ruled_out)
