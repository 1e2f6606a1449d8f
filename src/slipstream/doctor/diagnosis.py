"""The whole of what the doctor says, made of the evidence alone. Pure: the same records, the same words."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from slipstream.doctor.checks import examined
from slipstream.doctor.evidence import RECORDS_MIN, Evidence
from slipstream.doctor.finding import Finding, RuledOut
from slipstream.doctor.predict import REPLAYS, Advice, advise
from slipstream.doctor.rehearsal import Rehearsals
from slipstream.doctor.split import Split, split
from slipstream.doctor.symptoms import Symptom, symptoms

PREDICTED_MAX = 3
"""Causes whose fix is replayed, the first ones."""


class Cause(Struct, frozen=True):
    """A finding with the best of its fixes; `number` is what `--apply` takes."""

    number: int
    finding: Finding
    advice: Advice | None
    record: str = ""
    """What the ledger says of advice of this class; empty while there is none."""


class Diagnosis(Struct, frozen=True):
    """What the doctor says of a window.

    `verdict` is one sentence; without causes it says that none was found, which is an answer.
    """

    verdict: str
    symptoms: tuple[Symptom, ...]
    causes: tuple[Cause, ...]
    ruled_out: tuple[RuledOut, ...]
    requests: int
    since_wall_ns: int
    until_wall_ns: int
    split: Split | None = None
    """Where the time of the slow requests goes: waiting, or being served; None with too few requests."""


def diagnose(
    evidence: Evidence, *, seed: int = 0, replays: int = REPLAYS, records: Mapping[str, str] | None = None
) -> Diagnosis:
    """Symptoms, causes with their fixes, and what is ruled out. `records`: the ledger's word by class."""
    flows = evidence.flows
    since = flows[0].record.arrived_wall_ns if flows else 0
    until = max((flow.record.arrived_wall_ns + flow.record.duration_ns for flow in flows), default=0)
    count = len(flows) + len(evidence.before)
    if not evidence.is_enough:
        return Diagnosis(_too_few(evidence), (), (), (), count, since, until)
    found, ruled_out = examined(evidence)
    rehearsals = Rehearsals(evidence, seed=seed)
    causes = tuple(
        Cause(
            number,
            finding,
            advise(evidence, finding, replays=replays, rehearsals=rehearsals)
            if number <= PREDICTED_MAX
            else None,
            (records or {}).get(finding.check, ""),
        )
        for number, finding in enumerate(found, start=1)
    )
    told = symptoms(evidence, is_caused=bool(found))
    verdict = _verdict(causes, told)
    return Diagnosis(verdict, told, causes, ruled_out, count, since, until, split(evidence))


def _too_few(evidence: Evidence) -> str:
    """What is said where nothing can be."""
    count, since = len(evidence.flows), ""
    if evidence.settings_since_wall_ns and count + len(evidence.before) < RECORDS_MIN:
        at = datetime.fromtimestamp(evidence.settings_since_wall_ns / 1e9, UTC).astimezone()
        since = f" since the settings changed at {at:%H:%M:%S}"
    hint = "" if since else " Look further back (--since), or at the server that is meant (--server)."
    return f"{count} requests{since} are too few to say anything; {RECORDS_MIN} are needed.{hint}"


def _verdict(causes: Sequence[Cause], told: Sequence[Symptom]) -> str:
    if causes:
        return causes[0].finding.cause
    met = [symptom for symptom in told if symptom.is_met]
    if met and all(symptom.until_wall_ns is not None for symptom in met):
        return "No cause found. Requests were slow for a while, and are well again."
    if met:
        return "No cause found. There are symptoms, but every check was ruled out."
    if told:
        return "No cause found: requests are well, but something is strained."
    return "No cause found: the server is well."
