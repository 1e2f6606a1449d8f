"""Symptoms: what is named has one, an incident that is over is told as such, and no sentence denies another."""

import io
import random
from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from rich.console import Console

from doctor.traffic import asks, evidence, happened, times
from slipstream.cli.doctor_report import show
from slipstream.config.settings import Settings
from slipstream.core.record import Record
from slipstream.core.use import UseRow
from slipstream.doctor.diagnosis import Diagnosis, diagnose
from slipstream.doctor.evidence import gather
from slipstream.doctor.onset import BINS, PER_BIN_MIN, spell
from slipstream.doctor.symptoms import TAIL_MIN, symptoms
from slipstream.doctor.times import quantile


def printed(found: Diagnosis) -> str:
    out = io.StringIO()
    show(found, Console(file=out, width=400))
    return out.getvalue()


def test_a_named_cause_has_a_symptom() -> None:
    """West is slow from the start, by less than would be noticed: all the time, and who is there is hit."""
    given = evidence(asks(400, 10), {"east": times(0.06, 0.004), "west": times(0.06, 0.012)})
    taken = [flow.record.duration_ns for flow in given.flows]
    found = diagnose(given, replays=1)

    assert quantile(taken, 0.95) < TAIL_MIN * quantile(taken, 0.5)
    assert found.causes[0].finding.subject == "west"
    (told,) = found.symptoms
    assert (told.group, told.since_wall_ns, told.until_wall_ns) == ("slow response times", None, None)
    assert "upstream west" in told.hits
    assert told.requests
    assert "symptom slow response times all the time: one in twenty takes more than" in printed(found)
    assert symptoms(given) == ()


def incident(seconds: tuple[float, float], behind: Sequence[str]) -> tuple[list[Record], Settings]:
    """Requests of which some upstreams took 3.2 times as long for a while, somewhere inside the window."""
    records, known = happened(asks(480, 8), {"east": times(), "west": times()})
    first = records[0].arrived_wall_ns
    made = []
    for record in records:
        at = (record.arrived_wall_ns - first) / 1e9
        if seconds[0] <= at < seconds[1] and record.upstream in behind:
            slow = round(3.2 * record.duration_ns)
            steps = [replace(step, duration_ns=round(3.2 * step.duration_ns)) for step in record.steps]
            record = replace(record, duration_ns=slow, steps=steps)
        made.append(record)
    return made, known


@pytest.mark.parametrize("behind", [("east", "west"), ("west",)], ids=len)
def test_an_incident_that_is_over_is_told(behind: Sequence[str]) -> None:
    """When it began and when it ended; the verdict does not say that all is well."""
    records, known = incident((20, 34), behind)
    found = diagnose(gather(records, known), replays=1)
    (told,) = [each for each in found.symptoms if each.is_met]
    first = records[0].arrived_wall_ns
    assert told.since_wall_ns is not None
    assert told.until_wall_ns is not None

    assert abs((told.since_wall_ns - first) / 1e9 - 20) < 4
    assert abs((told.until_wall_ns - first) / 1e9 - 34) < 4
    assert "for a while" in told.text
    assert (
        found.causes or found.verdict == "No cause found. Requests were slow for a while, and are well again."
    )
    assert " from " in printed(found).split("slow response times")[1].split(":")[0]


BUSY_NEIGHBOURS = UseRow("cpu", 0.004, 17.0, "% of the time", None, "2 cores")


@pytest.mark.parametrize(
    ("row", "is_own"),
    [
        (BUSY_NEIGHBOURS, False),
        (replace(BUSY_NEIGHBOURS, part="memory"), False),
        (replace(BUSY_NEIGHBOURS, utilisation=0.5), True),
        (replace(BUSY_NEIGHBOURS, utilisation=None), True),
        (UseRow("cpu", 0.97), True),
        (UseRow("pool database", 0.1, 3.0), True),
    ],
)
def test_what_others_use_is_no_symptom_of_requests_that_are_well(row: UseRow, is_own: bool) -> None:
    """Work waits for a CPU that this server hardly uses: a clean bill. What it uses itself is told."""
    given = replace(evidence(asks(300, 8), {"a": times()}), resources=(row,))
    found = diagnose(given, replays=1)

    assert bool(found.symptoms) is is_own
    assert all(symptom.is_now and not symptom.is_met for symptom in found.symptoms)
    assert ("the server is well" in found.verdict) is not is_own
    assert "all the time" not in printed(found)


def test_beside_slow_requests_it_is_said_who_makes_them_wait() -> None:
    """Of this server's own use, and of the others on the machine; as of now, not of the window."""
    given = evidence(asks(400, 10), {"east": times(0.06, 0.004), "west": times(0.06, 0.02)})
    found = diagnose(replace(given, resources=(BUSY_NEIGHBOURS,)), replays=1)
    (told,) = [symptom for symptom in found.symptoms if symptom.is_now]

    assert told.text == (
        "now, at the time of asking: cpu (0% used by this server;"
        " others on this machine make work wait for it 17% of the time)"
    )
    assert "symptom high resource usage: now, at the time of asking" in printed(found)


def test_what_is_well_has_no_split_that_denies_it() -> None:
    """The terminal tells where the slow requests' time goes only where they are a symptom."""
    well = diagnose(evidence(asks(300, 8), {"a": times(), "b": times()}), replays=1)

    assert well.verdict == "No cause found: the server is well."
    assert well.split is not None
    assert "first split" not in printed(well)


def test_chance_is_no_spell() -> None:
    """No change at all, 150 times, with times that spread as answers do: none, or hardly any, is called one."""
    rng = random.Random(3)
    count = BINS * PER_BIN_MIN

    def drawn() -> list[float]:
        return [rng.lognormvariate(0, 0.6) for _ in range(count)]

    assert sum(spell(drawn()) is not None for _ in range(150)) <= 1
    assert spell([]) is None
    assert spell([1.0] * 20) is None


def test_a_spell_that_lasts_is_none() -> None:
    """What has not ended is an onset."""
    assert spell([1.0] * 300 + [3.0] * 200) is None
    found = spell([1.0] * 200 + [3.0] * 100 + [1.0] * 200)
    assert found is not None
    assert abs(found.first - 200) < 25
    assert abs(found.last - 300) < 25
