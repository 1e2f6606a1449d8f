"""From symptom to verified gain on a running server: named, predicted, applied, verified, written down."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from e2e.doctor_traffic import traffic, two_upstreams
from e2e.serving import Serving
from slipstream.store.ledger import LedgerStore

RATE = 12.0


def doctor(server: Serving, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "slipstream", "doctor", "--json", "--since", "10m", *arguments],
        cwd=server.folder, env=server.environ, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("by", ["replay", "live"])
def test_the_whole_loop(tmp_path: Path, by: str) -> None:
    """The slow one of two is named first; its fix is verified, by made-up or by live traffic, and kept."""
    prices = "[monitoring.prices.m]\ninput = 0.5\noutput = 2.0\n\n"
    with two_upstreams(tmp_path, east_itl_ms=4, west_itl_ms=60, more=prices) as server:
        before = (tmp_path / "slipstream.toml").read_text("utf-8")
        traffic(server, 300, RATE)
        found = doctor(server)
        going = threading.Thread(target=traffic, args=(server, round(90 * RATE), RATE))
        if by == "live":
            going.start()
        try:
            done = doctor(server, "--apply", "1", "--verify", "56", "--verify-by", by)
        finally:
            if by == "live":
                going.join()
        ledger = LedgerStore(tmp_path / "data" / "doctor.db")
        (entry,) = ledger.entries()
        ledger.close()

    first = found["causes"][0]  # type: ignore[index]
    assert (first["finding"]["check"], first["finding"]["subject"]) == ("slow_upstream", "west")
    assert found["split"]["kind"] == "slow service"  # type: ignore[index]
    assert done["is_kept"], done
    assert "weight = " in (tmp_path / "slipstream.toml").read_text("utf-8")
    assert (tmp_path / "slipstream.toml.before-doctor").read_text("utf-8") == before
    assert (entry.kind, entry.state) == ("slow_upstream", "kept")
    assert entry.predicted_gain is not None
    assert entry.actual_gain is not None
    for when in (
        "now",
        "predicted",
        "without",
        "actual",
    ):  # all the figures of both sides, as met and as told
        for what in ("p50", "p95", "throughput", "cost"):
            assert getattr(entry, f"{when}_{what}") > 0, (when, what)
    assert entry.without_p95 == done["without"]["p95"]  # type: ignore[index]
    assert entry.actual_cost == done["with_fix"]["cost"]  # type: ignore[index]
    assert abs(entry.predicted_gain - entry.actual_gain) < 0.35
