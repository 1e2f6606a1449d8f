"""What opening a database of ours promises: its settings, its permissions, and what becomes of a bad file."""

import os
import stat
import threading
from pathlib import Path
from typing import Literal

import apsw
import pytest

from slipstream.core.errors import ConfigurationError, StoreFailed
from slipstream.store import sqlite
from slipstream.store.migrations import Schema
from slipstream.store.sqlite import Database, Manner

SCHEMA = Schema("things", 0x74657374, ("CREATE TABLE things (name TEXT NOT NULL UNIQUE) STRICT",))


def opened(path: Path, manner: Manner | None = None, schema: Schema = SCHEMA) -> Database:
    return Database(path, schema, manner or Manner())


def test_a_database_is_opened_as_the_design_says(tmp_path: Path) -> None:
    """WAL, synchronous as asked, foreign keys, a bounded WAL, no memory map, incremental vacuum."""
    for synchronous, number in (("NORMAL", 1), ("FULL", 2)):
        database = opened(tmp_path / synchronous, Manner(synchronous=synchronous))
        pragmas = ("synchronous", "foreign_keys", "journal_size_limit", "mmap_size", "auto_vacuum")
        found = [database.number(f"PRAGMA {pragma}") for pragma in pragmas]
        assert [number, 1, 16 * 1024 * 1024, 0, 2] == found
        assert database.rows("PRAGMA journal_mode") == [("wal",)]
        assert database.rows("PRAGMA busy_timeout") == [(5000,)]
        database.close()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """The file, what SQLite keeps beside it, and the folder that was made, whatever the umask is."""
    before = os.umask(0)
    try:
        database = opened(tmp_path / "new" / "a.db")
        database.run_many("INSERT INTO things VALUES (?)", [("x",)])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()}
    assert dict.fromkeys(("a.db", "a.db-wal", "a.db-shm", "a.db.lock"), 0o600) == modes
    database.close()


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    """A path may point into a shared folder: closing that to others is not ours to do."""
    tmp_path.chmod(0o755)
    opened(tmp_path / "a.db").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.7.0"])
def test_an_old_sqlite_is_refused(version: str) -> None:
    """Before 3.51.3 two connections can corrupt a WAL database."""
    with pytest.raises(ConfigurationError, match=r"apsw>=3\.51\.3"):
        sqlite.refuse_old(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.54.1", "4.0"])
def test_a_fixed_sqlite_is_taken(version: str) -> None:
    """3.51.3 has the fix."""
    sqlite.refuse_old(version)


@pytest.mark.parametrize(
    "content",
    [b"", bytes(8192), os.urandom(8192), b"SQLite format 3\0" + os.urandom(5000), b"Dear diary"],
    ids=["empty", "zeros", "random", "random after the magic", "text"],
)
def test_a_file_that_is_no_database_is_set_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept under another name, said in the log and in `quarantined`; the new one works."""
    path = tmp_path / "a.db"
    path.write_bytes(content)
    database = opened(path)
    (aside,) = database.quarantined
    assert content == aside.read_bytes()
    assert aside.name.startswith("a.db.corrupt-20")
    assert "set aside" in caplog.text
    assert database.run_many("INSERT INTO things VALUES (?)", [("x",)]) == 1
    database.close()
    again = opened(path)
    assert again.quarantined == ()
    again.close()


@pytest.mark.parametrize("content", [b"", bytes(8192)], ids=["empty", "zeros"])
def test_a_damaged_file_is_left_where_the_manner_says_so(tmp_path: Path, content: bytes) -> None:
    """Keys must not vanish because a disk failed."""
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(StoreFailed, match=r"damaged|not a database") as failure:
        opened(path, Manner(when_damaged="refuse"))
    assert failure.value.code == sqlite.DAMAGED
    assert content == path.read_bytes()


def test_a_table_that_is_missing_is_damage(tmp_path: Path) -> None:
    """The version says that it is there; every statement would fail for ever."""
    path = tmp_path / "a.db"
    opened(path).close()
    other = apsw.Connection(str(path))
    other.execute("DROP TABLE things; CREATE TABLE thinks (name TEXT)")
    other.close()
    database = opened(path)
    assert len(database.quarantined) == 1
    database.close()


def test_tables_and_indexes_of_others_do_not_matter(tmp_path: Path) -> None:
    """Someone may add a view of their own for their dashboards."""
    path = tmp_path / "a.db"
    opened(path).close()
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs (x); CREATE VIEW seen AS SELECT * FROM things; ANALYZE")
    other.close()
    database = opened(path)
    assert database.quarantined == ()
    database.close()


def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    """A disk that damages files again and again does not fill up with them."""
    path = tmp_path / "a.db"
    for number in range(5):
        path.write_bytes(b"damaged %d" % number)
        opened(path).close()
    kept = {file.read_bytes() for file in tmp_path.glob("a.db.corrupt-*")}
    assert {b"damaged 2", b"damaged 3", b"damaged 4"} == kept


def test_a_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A mistyped path must not put our tables into their file, nor move it away."""
    path = tmp_path / "a.db"
    theirs = apsw.Connection(str(path))
    theirs.execute("CREATE TABLE mail (x)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="not one of Slipstream's things"):
        opened(path)
    assert before == path.read_bytes()


def test_a_wal_without_its_database_is_not_replayed(tmp_path: Path) -> None:
    """A database that was deleted must not come back in part, in the new one."""
    path = tmp_path / "a.db"
    database = opened(path)
    database.run_many("INSERT INTO things VALUES (?)", [("old",)])
    path.unlink()
    other = opened(path)
    assert other.rows("SELECT * FROM things") == []
    other.close()
    database.close()


def test_a_half_made_database_is_never_seen(tmp_path: Path) -> None:
    """What a start that was killed left behind is thrown away, not opened."""
    (tmp_path / "a.db.new").write_bytes(b"half")
    (tmp_path / "a.db.new-journal").write_bytes(b"half")
    database = opened(tmp_path / "a.db")
    assert database.quarantined == ()
    database.close()
    assert not list(tmp_path.glob("*.new*"))


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_replaced_file_is_noticed(tmp_path: Path, journal: Literal["wal", "delete"]) -> None:
    """After `refresh` the connection is to the file at the path, and nothing of the former one is in it."""
    first = opened(tmp_path / "a.db", Manner(journal=journal))
    first.run_many("INSERT INTO things VALUES (?)", [("a",)])
    assert not first.refresh()
    second = opened(tmp_path / "b.db")
    second.run_many("INSERT INTO things VALUES (?)", [("b",)])
    second.close()
    (tmp_path / "b.db").rename(tmp_path / "a.db")
    assert first.refresh()
    assert first.rows("SELECT * FROM things") == [("b",)]
    assert first.quarantined == ()
    first.close()


def test_a_deleted_file_is_made_again_or_not_as_the_manner_says(tmp_path: Path) -> None:
    """Records begin anew; keys do not."""
    database = opened(tmp_path / "a.db")
    (tmp_path / "a.db").unlink()
    assert database.refresh()
    database.close()
    careful = opened(tmp_path / "b.db", Manner(when_gone="refuse"))
    (tmp_path / "b.db").unlink()
    with pytest.raises(StoreFailed, match="deleted"):
        careful.refresh()
    assert not (tmp_path / "b.db").exists()
    careful.close()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """All or nothing, and the connection is fit for the next one."""
    database = opened(tmp_path / "a.db")
    with pytest.raises(StoreFailed, match="UNIQUE") as failure, database.transaction():
        database.run_many("INSERT INTO things VALUES (?)", [("a",), ("b",), ("a",)])
    assert failure.value.code == sqlite.ROW_REFUSED
    assert database.number("SELECT count(*) FROM things") == 0
    assert database.run_many("INSERT INTO things VALUES (?)", [("a",)]) == 1
    database.close()


def test_a_full_database_says_what_to_do(tmp_path: Path) -> None:
    """The error of a full disk names the setting that helps."""
    database = opened(tmp_path / "a.db")
    database.rows("PRAGMA max_page_count = 4")
    with pytest.raises(StoreFailed, match=r"record\.keep_bytes") as failure, database.transaction():
        database.run_many("INSERT INTO things VALUES (?)", [(f"{number:0500}",) for number in range(1000)])
    assert failure.value.code == sqlite.FULL
    assert database.number("SELECT count(*) FROM things") == 0
    database.close()


def test_a_folder_that_cannot_be_made_is_a_store_that_failed(tmp_path: Path) -> None:
    """An operating system's error comes out as one of ours."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreFailed) as failure:
        opened(tmp_path / "file" / "a.db")
    assert failure.value.code == sqlite.UNWRITABLE


def test_a_closed_database_says_so_in_our_words(tmp_path: Path) -> None:
    """Closing twice is harmless, using it afterwards is a `StoreFailed`."""
    database = opened(tmp_path / "a.db")
    database.close()
    database.close()
    with pytest.raises(StoreFailed):
        database.rows("SELECT 1")


def test_threads_take_turns(tmp_path: Path) -> None:
    """A page's thread and the writer's may use one database at the same time."""
    database = opened(tmp_path / "a.db")

    def work(name: str) -> None:
        for number in range(200):
            with database.transaction():
                database.run_many("INSERT INTO things VALUES (?)", [(f"{name}{number}",)])
            assert database.number("SELECT count(*) FROM things") > number

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.number("SELECT count(*) FROM things") == 800
    database.close()
