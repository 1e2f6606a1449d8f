"""How right the doctor was: hits, error and coverage by class; a class with a bad record is marked."""

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from slipstream.cli import run
from slipstream.cli.doctor_ledger import show
from slipstream.doctor.ledger import Ledger, read, reputation, scores, summed
from slipstream.store.ledger import Entry, LedgerStore


def entry(kind: str, predicted: float, actual: float | None, *, state: str = "kept") -> Entry:
    return Entry(
        wall_ns=1, kind=kind, subject="a", setting="s", before="1", after="2", state=state,  # type: ignore[arg-type]
        predicted_gain=predicted, gain_low=predicted - 0.1, gain_high=predicted + 0.1, actual_gain=actual,
        predicted_p95=1 - predicted, actual_p95=None if actual is None else 1 - actual,
    )  # fmt: skip


def test_a_good_record() -> None:
    """Three that did as told: all hits, small error, all covered."""
    score = scores([entry("small_cap", 0.5, gain) for gain in (0.45, 0.5, 0.55)])["small_cap"]

    assert (score.count, score.hits, score.coverage, score.is_bad) == (3, 1.0, 1.0, False)
    assert 0 < score.error < 0.15


def test_a_bad_record_is_marked() -> None:
    """Three that did not help are said wherever such advice is shown."""
    told = reputation([entry("slow_upstream", 0.5, gain, state="rolled back") for gain in (-0.1, 0.0, -0.2)])

    assert told["slow_upstream"].startswith("BAD RECORD")


def test_one_is_no_record() -> None:
    """Too few to judge, and those that were not verified do not count."""
    entries = [entry("small_cap", 0.5, -1.0), entry("small_cap", 0.5, None), entry("blocked_loop", 0.5, None)]

    assert not scores(entries)["small_cap"].is_bad
    assert "too few" in reputation(entries)["small_cap"]
    assert "blocked_loop" not in reputation(entries)


def test_an_empty_ledger_says_what_fills_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words and as JSON; no file is made by looking."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIPSTREAM__DATA_FOLDER", str(tmp_path / "data"))
    monkeypatch.setenv("SLIPSTREAM__STATE_FOLDER", str(tmp_path / "state"))

    assert run(["doctor", "--ledger"]) == 0
    assert "--apply N" in " ".join(capsys.readouterr().out.split())
    assert run(["doctor", "--ledger", "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Ledger)
    assert (found.entries, found.scores, found.overall) == ((), (), None)
    assert list((tmp_path / "data").glob("*")) == []


def test_the_ledger_is_listed_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`slipstream doctor --ledger`: every fix, newest first, and the scores of their classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIPSTREAM__DATA_FOLDER", str(tmp_path))
    monkeypatch.setenv("SLIPSTREAM__STATE_FOLDER", str(tmp_path / "state"))
    store = LedgerStore(tmp_path / "doctor.db")
    older = msgspec.structs.replace(entry("small_cap", 0.5, None, state="applied"), wall_ns=10**18)
    newer = msgspec.structs.replace(entry("slow_upstream", 0.64, 0.62), wall_ns=2 * 10**18)
    for each in (older, newer):
        store.add(each)
    store.close()

    assert run(["doctor", "--ledger", "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Ledger)
    assert found == read(tmp_path / "doctor.db")
    assert list(found.entries) == [newer, older]
    assert [each.kind for each in found.scores] == ["slow_upstream"]
    assert run(["doctor", "--ledger"]) == 0
    said = capsys.readouterr().out
    assert said.index("slow_upstream a") < said.index("small_cap a")
    assert "2 fixes were acted on: 1 kept, 1 applied and not verified." in " ".join(said.split())


def test_the_table_holds_predicted_beside_actual_in_a_narrow_terminal() -> None:
    """With intervals, as changes of the p95; the mark of a bad class; cost where it is known, not otherwise."""
    bad = [entry("small_cap", 0.5, gain, state="rolled back") for gain in (-0.1, 0.0, -0.2)]
    priced = msgspec.structs.replace(entry("slow_upstream", 0.64, 0.62), predicted_cost=0.0012, actual_low=0.6,
                                     actual_high=0.65, setting="models.upstreams.west.weight", without_p95=1.71, without_throughput=13.14)  # fmt: skip

    def told(entries: list[Entry], width: int) -> str:
        out = io.StringIO()
        show(summed(entries), Console(file=out, width=width))
        return out.getvalue()

    said = told([priced, *bad], 100)
    assert "-64% (-74% to -54%)" in said
    assert "-62% (-65% to -60%)" in said
    assert "0.0012" in said
    without = next(line for line in said.splitlines() if "without" in line)
    assert without.split()[-3:] == ["1.71", "13.14", "–"]
    assert "BAD RECORD" in said
    assert "too few to judge" in said
    narrow = told(bad, 80)
    assert "$/request" not in narrow
    assert max(map(len, narrow.splitlines())) <= 80


def test_all_classes_together_have_a_record() -> None:
    """Counted once each; not there before anything was verified."""
    found = summed(
        [
            entry("small_cap", 0.5, 0.5),
            entry("slow_upstream", 0.5, -0.5, state="rolled back"),
            entry("retry_storm", 0.5, None),
        ]
    )

    assert found.overall is not None
    assert (found.overall.count, found.overall.hits) == (2, 0.5)
    assert summed([entry("small_cap", 0.5, None)]).overall is None


def test_a_fix_that_was_taken_back_is_no_hit() -> None:
    """However little it gained: it was not kept."""
    score = scores([entry("small_cap", 0.02, 0.01, state="rolled back") for _ in range(4)])["small_cap"]

    assert (score.hits, score.is_bad) == (0.0, True)
