"""After a change of settings: evidence is what came since, and no weight is lowered for ever."""

from pathlib import Path

import msgspec
import pytest

from doctor.traffic import START_NS, asks, evidence, happened, settings, times
from slipstream.config import paths
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError
from slipstream.doctor.checks import examined
from slipstream.doctor.diagnosis import diagnose
from slipstream.doctor.doctor import Doctor, changed_since
from slipstream.doctor.evidence import gather
from slipstream.doctor.one_at_a_time import LOCK, alone, looking
from slipstream.server.renewal import DoctorView
from slipstream.store import settings_since
from slipstream.store.records import RecordStore


def test_what_is_next_to_nothing_is_not_lowered_again() -> None:
    """The slow one is the reserve already: in words what to do then, and no setting."""
    more = {"east": {"weight": 5.0}, "west": {"weight": 0.05}}
    slow = {"east": times(), "west": times(0.9, 0.05)}
    given = evidence(asks(300, 12), slow)
    (found, *_), _ = examined(
        msgspec.structs.replace(given, settings=evidence(asks(2, 1), slow, more=more).settings)
    )

    assert (found.check, found.subject) == ("slow_upstream", "west")
    assert [(fix.setting, fix.after) for fix in found.fixes] == [("", "")]
    assert "remove it" in found.fixes[0].text


def test_the_lowest_weight_offered_is_beside_the_peers() -> None:
    """A weight of 0.02 beside 1 becomes 0.01, not 0.0002."""
    slow = {"east": times(), "west": times(0.9, 0.05)}
    low = evidence(asks(2, 1), slow, more={"west": {"weight": 0.02}}).settings
    (found, *_), _ = examined(msgspec.structs.replace(evidence(asks(300, 12), slow), settings=low))

    assert [fix.after for fix in found.fixes] == ["0.01"]


def test_what_came_before_the_change_is_left_out() -> None:
    """Slow before, well since: nothing is found; with few since, that is what is said."""
    ill, _ = happened(asks(300, 12), {"east": times(), "west": times(0.9, 0.05)})
    well, known = happened(asks(120, 12, seed=2), {"east": times(), "west": times()})
    shift = ill[-1].arrived_wall_ns + 10**9 - START_NS
    later = [
        msgspec.structs.replace(each, id=f"l{each.id}", arrived_wall_ns=each.arrived_wall_ns + shift)
        for each in well
    ]
    changed_ns = later[0].arrived_wall_ns
    given = gather([*ill, *later], known, settings_since_wall_ns=changed_ns)
    few = diagnose(gather([*ill, *later[:12]], known, settings_since_wall_ns=changed_ns))

    assert len(given.flows) + len(given.before) == 120
    assert examined(given)[0] == ()
    assert few.verdict.startswith("12 requests since the settings changed at ")
    assert "since the settings" not in diagnose(gather(later[:12], known)).verdict


def test_only_a_change_inside_the_window_counts(tmp_path: Path) -> None:
    """None lives, never changed, changed before the window, and in it; of one that has ended as of a live one."""
    known = Settings(data_folder=str(tmp_path))
    views = [DoctorView(known, "", (), 0, at) for at in (0, 4, 9)]

    assert changed_since(None, known, 5) == 0
    assert [changed_since(view, known, 5) for view in views] == [0, 0, 9]
    settings_since.hold(paths.settings_since_path(known), known, 7)
    assert [changed_since(None, known, at) for at in (5, 7)] == [7, 0]


def test_without_a_live_server_all_that_was_recorded_counts(tmp_path: Path) -> None:
    """Of a real store, as before."""
    made, _ = happened(asks(30, 1), {"a": times()})
    known = Settings(data_folder=str(tmp_path), state_folder=str(tmp_path / "state"))
    store = RecordStore(paths.records_path(known))
    store.insert(made)
    store.close()
    given = Doctor(settings=known).evidence(10**9)  # as far back as the records are

    assert (len(given.flows), given.settings_since_wall_ns) == (30, 0)


def test_what_came_before_a_restart_with_other_settings_is_left_out(tmp_path: Path) -> None:
    """Slow, stopped, mended by hand, started again: what came since is judged, and the slow one is not named."""
    ill, _ = happened(asks(300, 12), {"east": times(), "west": times(0.9, 0.05)})
    well, served = happened(
        asks(120, 12, seed=2), {"east": times(), "west": times()}, more={"west": {"weight": 0.5}}
    )
    folders = {"data_folder": str(tmp_path), "state_folder": str(tmp_path / "state")}
    known = msgspec.structs.replace(served, **folders)
    before = msgspec.structs.replace(settings({"east": {}, "west": {}}), **folders)
    restarted_ns = ill[-1].arrived_wall_ns + 10**9
    shift = restarted_ns + 10**6 - START_NS
    later = [
        msgspec.structs.replace(each, id=f"l{each.id}", arrived_wall_ns=each.arrived_wall_ns + shift)
        for each in well
    ]
    store = RecordStore(paths.records_path(known))
    store.insert([*ill, *later])
    store.close()
    path = paths.settings_since_path(known)
    settings_since.begun(path, before, START_NS)
    settings_since.begun(path, before, START_NS + 1)
    all_of_it = Doctor(settings=before).evidence(10**9)
    settings_since.begun(path, known, restarted_ns)
    given = Doctor(settings=known).evidence(10**9)

    assert len(all_of_it.flows) + len(all_of_it.before) == 420
    assert len(given.flows) + len(given.before) == 120
    assert examined(given)[0] == ()


def test_one_fix_at_a_time(tmp_path: Path) -> None:
    """A second one is refused in words; with the first one's end it is free again."""
    ledger = tmp_path / "doctor.db"
    with looking(ledger) as is_idle:
        assert is_idle
        assert not ledger.with_name(LOCK).exists()
    with alone(ledger):
        with pytest.raises(ConfigurationError, match="Another fix"), alone(ledger):
            raise AssertionError
        with looking(ledger) as is_idle:
            assert not is_idle
    with alone(ledger):
        assert ledger.with_name(LOCK).stat().st_mode & 0o777 == 0o600
    with looking(ledger) as is_idle:
        assert is_idle
