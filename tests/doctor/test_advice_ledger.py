"""How right the doctor was: hits, error and coverage by class; a class with a bad record is marked."""

from slipstream.doctor.ledger import reputation, scores
from slipstream.store.ledger import Entry


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
