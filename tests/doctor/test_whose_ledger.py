"""The ledger, the lock and the records are the server's, wherever the command that asks runs."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from e2e.serving import Serving, serving
from slipstream.config.edit import with_value
from slipstream.config.live import live_servers
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError
from slipstream.doctor.doctor import Doctor
from slipstream.doctor.recover import recover
from slipstream.doctor.whose_ledger import ledger_of, seen_here
from slipstream.server.renewal import DoctorView
from slipstream.store.ledger import Entry, LedgerStore

SETTING = "models.attempts"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Its data folder is one below the folder in which it runs."""
    folder = tmp_path_factory.mktemp("there")
    with serving(folder, SLIPSTREAM__DATA_FOLDER="theirs", SLIPSTREAM__MODELS__LOCAL__ENABLED="off") as found:
        yield found


def here(server: Serving, folder: Path) -> Settings:
    """Settings of a command that runs elsewhere, and knows the state folder."""
    return Settings(data_folder=str(folder), state_folder=server.environ["SLIPSTREAM__STATE_FOLDER"])


def begun(server: Serving) -> Path:
    """As a process leaves it that is killed while it tries a fix."""
    file, before = server.folder / "slipstream.toml", server.folder / "slipstream.toml.before-doctor"
    before.write_text("# theirs\n", "utf-8")
    file.write_text(with_value("# theirs\n", SETTING, "4"), "utf-8")
    store = LedgerStore(server.folder / "theirs" / "doctor.db")
    store.add(Entry(wall_ns=1, kind="k", subject="s", setting=SETTING, before="2", after="4",
                    state="applying", file=str(file), file_before=str(before)))  # fmt: skip
    store.close()
    return file


def test_the_ledger_is_the_servers(server: Serving, tmp_path: Path) -> None:
    """It is read and mended from another folder; a command of that folder makes no other one."""
    file, settings = begun(server), here(server, tmp_path / "data")
    (live,) = live_servers(settings)

    assert ledger_of(live) == server.folder / "theirs" / "doctor.db"
    assert SETTING in Doctor(settings=settings).interrupted()
    assert recover(settings) == []
    assert [each.state for each in recover(settings, [live])] == ["interrupted"]
    assert file.read_text("utf-8") == "# theirs\n"
    assert Doctor(settings=settings).interrupted() == ""
    assert not (tmp_path / "data" / "doctor.db").exists()


def test_records_lie_where_the_server_runs(server: Serving, tmp_path: Path) -> None:
    """What is relative there is whole here; what is whole stays."""
    (live,) = live_servers(here(server, tmp_path))
    view = msgspec.convert(server.json("/_slipstream/doctor"), DoctorView)
    path = msgspec.structs.replace(view.settings.record, path="r.db")
    found = seen_here(
        live, msgspec.structs.replace(view, settings=msgspec.structs.replace(view.settings, record=path))
    )

    assert (found.data_folder, found.record.path) == (
        str(server.folder / "theirs"),
        str(server.folder / "r.db"),
    )
    assert seen_here(live, msgspec.structs.replace(view, settings=found)) == found


def test_a_server_that_is_none_is_told(server: Serving, tmp_path: Path) -> None:
    """One that was named must be there; without a name, and without any, it is our own ledger."""
    with pytest.raises(ConfigurationError, match="No live server is called"):
        Doctor(server="1", settings=here(server, tmp_path)).ledger()
    assert (
        Doctor(settings=Settings(data_folder=str(tmp_path), state_folder=str(tmp_path))).ledger().entries
        == ()
    )
