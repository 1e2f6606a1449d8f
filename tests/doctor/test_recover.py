"""A fix whose process was killed is taken back, and nothing but that: what people have changed since stays."""

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from slipstream.cli import run
from slipstream.cli.serve import _loaded, _took_back
from slipstream.config import paths
from slipstream.config.edit import with_value
from slipstream.config.load import load
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError
from slipstream.doctor.ledger import read
from slipstream.doctor.one_at_a_time import alone
from slipstream.doctor.recover import recover
from slipstream.doctor.undo import undone
from slipstream.store.ledger import Entry, LedgerStore

SETTING = "models.upstreams.west.weight"
FILE = """# ours
[models.upstreams.west]
url = "http://127.0.0.1:9/v1"  # the slow one
{line}
[models]
attempts = 3
"""


def begun(file: str = "slipstream.toml", before: str = "slipstream.toml.before-doctor") -> Entry:
    return Entry(wall_ns=1, kind="slow_upstream", subject="west", setting=SETTING, before="1", after="0.01",
                 state="applying", file=file, file_before=before)  # fmt: skip


LINES = st.sampled_from(["", "weight = 1", "weight = 2.5   # by hand"])


@example(line="", attempts=None, weight="1.0", is_kept=False)
@given(LINES, st.none() | st.integers(1, 9), st.none() | st.floats(0.25, 4).map(str), st.booleans())
def test_only_what_it_wrote_is_taken_back(
    line: str, attempts: int | None, weight: str | None, is_kept: bool
) -> None:
    """Untouched since, the file is as before to the byte; other settings keep what people wrote, and so does
    this one where they changed it; with the file before lost, the ledger still knows the value.
    """
    before = FILE.format(line=line)
    now = with_value(before, SETTING, "0.01")
    if attempts is not None:
        now = with_value(now, "models.attempts", str(attempts))
    if weight is not None:
        now = with_value(now, SETTING, weight)
    assume(now != before)
    told = undone(begun(), now, before if is_kept else None)

    if weight is not None and float(weight) != 0.01:
        said = "as before" if float(weight) == 1 else "changed since"
        assert (told.what, said in told.note) == ("leave", True)
        return
    assert told.what == "write"
    tree = tomllib.loads(told.text)
    was = tomllib.loads(before)["models"]["upstreams"]["west"].get("weight", 1) if is_kept else 1
    assert tree["models"]["upstreams"]["west"].get("weight", 1) == was
    assert tree["models"]["attempts"] == (3 if attempts is None else attempts)
    if is_kept and attempts in {None, 3}:
        assert told.text == before


@pytest.mark.parametrize(
    ("now", "before", "what", "said"),
    [
        (None, FILE, "leave", "not there any more"),
        (FILE, FILE, "leave", "was out just then"),
        ("no [toml", FILE, "leave", "cannot be read"),
        (f"{SETTING} = 0.01\n", "", "write", "what else was changed"),
        (f"{SETTING} = 1.0\n", "# of an earlier fix", "leave", "as before"),
        ("# nothing of it\n", "# of an earlier fix", "leave", "as before"),
    ],
)
def test_what_cannot_be_taken_back_is_left_and_said(
    now: str | None, before: str, what: str, said: str
) -> None:
    """In a sentence; nothing is made up."""
    told = undone(begun(), now, before)

    assert told.what == what
    assert said in told.note


def test_a_file_that_was_not_there_goes_again() -> None:
    """It was made for the one line."""
    entry = begun(before="")

    assert undone(entry, with_value("", SETTING, "0.01"), "").what == "remove"
    assert undone(entry, None, "").note == "the settings file is not there, as before."
    told = undone(entry, with_value("", SETTING, "0.01") + "\n[log]\n", "")
    assert (told.what, tomllib.loads(told.text)["log"]) == ("write", {})


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a process leaves it that is killed in the middle; no server lives."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIPSTREAM__DATA_FOLDER", str(tmp_path / "data"))
    monkeypatch.setenv("SLIPSTREAM__STATE_FOLDER", str(tmp_path / "state"))
    file, before = tmp_path / "slipstream.toml", tmp_path / "slipstream.toml.before-doctor"
    before.write_text(FILE.format(line=""), "utf-8")
    file.write_text(with_value(before.read_text("utf-8"), SETTING, "0.01"), "utf-8")
    file.chmod(0o640)
    store = LedgerStore(paths.ledger_path(Settings(data_folder=str(tmp_path / "data"))))
    store.add(begun(str(file), str(before)))
    store.close()
    return tmp_path


def test_looking_says_it_and_changes_nothing(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`doctor` and `doctor --ledger` tell what to do; while somebody applies a fix, it is that one's."""
    now = (killed / "slipstream.toml").read_text("utf-8")
    for arguments in (["doctor"], ["doctor", "--ledger"]):
        assert run(arguments) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"`{SETTING} = 0.01` (before: 1) may still be in force" in said
        assert "slipstream doctor --recover" in said
    ledger = killed / "data" / "doctor.db"
    with alone(ledger):
        assert read(ledger).interrupted == ""
    assert read(ledger).entries[0].state == "applying"
    assert (killed / "slipstream.toml").read_text("utf-8") == now


def test_asked_to_it_takes_it_back_once(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is as before with its rights, the row says what came of it; a second time there is nothing."""
    assert run(["doctor", "--recover"]) == 0
    assert "the file is as before" in capsys.readouterr().out

    assert (killed / "slipstream.toml").read_text("utf-8") == FILE.format(line="")
    assert (killed / "slipstream.toml").stat().st_mode & 0o777 == 0o640
    found = read(killed / "data" / "doctor.db")
    assert (found.entries[0].state, found.interrupted, found.overall) == ("interrupted", "", None)
    assert found.entries[0].note.startswith(
        "The process that tried it ended before it was over; the file is as before"
    )
    assert run(["doctor", "--recover"]) == 0
    assert "nothing to take back" in capsys.readouterr().out
    assert run(["doctor", "--ledger"]) == 0
    assert "interrupted" in capsys.readouterr().out


def test_an_apply_takes_it_back_first(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before it looks: what it judges must not be traffic under a fix that nobody has kept."""
    assert run(["doctor", "--apply", "1"]) == 1
    assert "the file is as before" in capsys.readouterr().out
    assert (killed / "slipstream.toml").read_text("utf-8") == FILE.format(line="")


def test_nothing_is_recovered_beside_an_apply(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its process lives: it takes back by itself."""
    with alone(killed / "data" / "doctor.db"):
        assert run(["doctor", "--recover"]) == 1
    assert "Another fix is being applied" in capsys.readouterr().err


def test_without_a_ledger_there_is_nothing_and_none_is_made(tmp_path: Path) -> None:
    """A machine on which nothing was ever applied."""
    assert recover(Settings(data_folder=str(tmp_path / "data"))) == []
    assert list((tmp_path / "data").iterdir()) == []


@pytest.fixture
def foreign_lock(killed: Path) -> Path:
    """The lock as `sudo slipstream doctor` leaves it: nobody but root may open it. A root finds a loop of links."""
    lock = killed / "data" / "doctor.lock"
    if os.geteuid():
        lock.touch(0o000)
    else:
        lock.symlink_to(lock)
    return lock


def test_a_lock_of_another_user_is_told_and_reading_goes_on(
    foreign_lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To take back, the lock must be had: it is said how. The ledger is shown without it."""
    assert run(["doctor", "--recover"]) == 1
    said = capsys.readouterr().err
    assert f"{foreign_lock} cannot be opened" in " ".join(said.split())
    assert "chown" in said
    for arguments in (["doctor"], ["doctor", "--ledger"]):
        assert run(arguments) == 0
        assert "may still be in force" not in capsys.readouterr().out


def test_a_server_says_why_it_took_nothing_back(
    killed: Path, caplog: pytest.LogCaptureFixture, foreign_lock: Path
) -> None:
    """And serves: that another fix is being applied is no fault of the ledger's."""
    settings = Settings(data_folder=str(killed / "data"), state_folder=str(killed / "state"))
    assert not _took_back(settings)
    foreign_lock.unlink()
    with alone(killed / "data" / "doctor.db"):
        assert not _took_back(settings)

    assert [each.message for each in caplog.records] == ["a fix of the doctor's is not taken back"] * 2
    whys = [each.__dict__["why"] for each in caplog.records]
    assert "cannot be opened" in whys[0]
    assert whys[1] == "Another fix is being applied. Wait until it is done."


def test_it_is_taken_back_where_the_file_cannot_be_read_as_settings(
    killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What others have written wrong since is theirs to mend; the ledger can be read meanwhile."""
    file = killed / "slipstream.toml"
    file.write_text(file.read_text("utf-8") + "[no.such]\nsetting = 1\n", "utf-8")
    assert run(["doctor", "--ledger"]) == 0
    assert run(["doctor", "--recover"]) == 0

    assert "is out of the file again" in capsys.readouterr().out
    assert file.read_text("utf-8") == FILE.format(line="") + "[no.such]\nsetting = 1\n"


def test_a_server_takes_back_what_keeps_it_from_starting(
    killed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fix of an earlier version that no settings can be loaded with: the ledger knows it."""
    (killed / "slipstream.toml").write_text(with_value("", SETTING, "0.01"), "utf-8")
    (killed / "slipstream.toml.before-doctor").write_text("[models]\n", "utf-8")
    with pytest.raises(ConfigurationError, match="lacks `url`"):
        load()

    assert _loaded({}).settings.models.upstreams == {}
    assert [each.message for each in caplog.records] == ["a fix of the doctor's was interrupted"]
    (killed / "slipstream.toml").write_text(with_value("", SETTING, "0.01"), "utf-8")
    with pytest.raises(ConfigurationError, match="lacks `url`"):
        _loaded({})


def test_what_cannot_be_told_is_tried_again(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no TOML just then: the row is not over before the fix is out."""
    file = killed / "slipstream.toml"
    now = file.read_text("utf-8")
    file.write_text(now + "half a [", "utf-8")
    assert run(["doctor", "--recover"]) == 0
    assert "cannot be read and is left as it is" in capsys.readouterr().out
    assert read(killed / "data" / "doctor.db").interrupted != ""
    file.write_text(now, "utf-8")
    assert run(["doctor", "--recover"]) == 0

    assert file.read_text("utf-8") == FILE.format(line="")
    assert read(killed / "data" / "doctor.db").entries[0].state == "interrupted"
