"""The doctor beside the real embedded model: too few slots are named, more are tried, the better stays."""

import tomllib
from pathlib import Path

import pytest

from e2e.local_server import Users, children, in_force, until, with_local
from e2e.test_doctor_loop import doctor
from slipstream.store.ledger import LedgerStore

pytestmark = [pytest.mark.model, pytest.mark.long]

SLOTS = "models.local.slots"


@pytest.mark.timeout(400)
def test_too_few_slots_are_named_and_more_are_tried_while_it_serves(tmp_path: Path) -> None:
    """Whether two slots help depends on the cores: file, server, ledger and verdict agree either way."""
    with with_local(tmp_path, slots=1) as server:
        with Users(server, 6, max_tokens=8) as users:
            users.more(150)
        first = doctor(server, "--since", "10m")["causes"][0]  # type: ignore[index]
        assert first["finding"]["check"] == "starved_local", first
        assert first["finding"]["fixes"][0]["setting"] == SLOTS
        assert first["advice"]["fix"]["setting"] == SLOTS, first["advice"]
        after = int(first["advice"]["fix"]["after"])
        done = doctor(server, "--since", "10m", "--apply", "1", "--verify", "20")
        slots = in_force(server).settings.models.local.slots
        written = tomllib.loads((tmp_path / "slipstream.toml").read_text("utf-8"))
        until(lambda: len(children(server)) == 1)
        server.ask("Still there?", max_tokens=4)
    store = LedgerStore(tmp_path / "data" / "doctor.db")
    try:
        (entry,) = store.entries()
    finally:
        store.close()

    assert done["requests"] > 0  # type: ignore[operator]
    interval = done["gain_interval"]
    is_kept = done["is_kept"]
    assert done["with_fix"]["failed_share"] == done["without"]["failed_share"] == 0  # type: ignore[index]
    if is_kept:
        assert interval["low"] > 0  # type: ignore[index]
    assert slots == written["models"]["local"]["slots"] == (after if is_kept else 1)
    assert (entry.kind, entry.setting, entry.before, entry.after) == ("starved_local", SLOTS, "1", str(after))
    assert entry.state == ("kept" if is_kept else "rolled back")
    assert entry.actual_gain == done["gain"]
