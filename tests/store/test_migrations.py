"""Every older file becomes what a new one is, without losing a row; a newer one is never touched."""

from pathlib import Path

import apsw
import pytest

from slipstream.core.errors import ConfigurationError, StoreFailed
from slipstream.store import keys, migrations, records
from slipstream.store.migrations import Schema
from slipstream.store.sqlite import Database, Manner

GROWN = Schema(
    "things",
    0x74657374,
    (
        "CREATE TABLE things (name TEXT NOT NULL) STRICT;",
        "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7; CREATE INDEX sizes ON things (size);",
        "CREATE TABLE more (x INTEGER) STRICT; INSERT INTO more SELECT size FROM things;",
    ),
)


def at_version(schema: Schema, version: int) -> Schema:
    return Schema(schema.kind, schema.application_id, schema.scripts[:version])


def tables(database: Database) -> list[tuple[object, ...]]:
    return database.rows("SELECT type, name, sql FROM sqlite_schema ORDER BY name")


@pytest.mark.parametrize("schema", [GROWN, records.SCHEMA, keys.SCHEMA], ids=lambda schema: schema.kind)
def test_every_older_version_becomes_the_newest(tmp_path: Path, schema: Schema) -> None:
    """What an upgrade makes is word for word what a fresh start makes."""
    fresh = Database(tmp_path / "fresh.db", schema, Manner())
    for version in range(1, schema.version + 1):
        path = tmp_path / f"{version}.db"
        Database(path, at_version(schema, version), Manner()).close()
        database = Database(path, schema, Manner(when_damaged="refuse"))
        assert schema.version == database.number("PRAGMA user_version")
        assert tables(fresh) == tables(database)
        database.close()
    fresh.close()


def test_rows_survive_an_upgrade(tmp_path: Path) -> None:
    """From the first version to the last, with what the scripts do to them."""
    path = tmp_path / "a.db"
    old = Database(path, at_version(GROWN, 1), Manner())
    old.run_many("INSERT INTO things VALUES (?)", [("a",), ("b",)])
    old.close()
    new = Database(path, GROWN, Manner())
    assert new.rows("SELECT * FROM things") == [("a", 7), ("b", 7)]
    assert new.rows("SELECT * FROM more") == [(7,), (7,)]
    new.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Its statements and the version are one transaction; the file stays as the older Slipstream left it."""
    path = tmp_path / "a.db"
    Database(path, at_version(GROWN, 1), Manner()).close()
    broken = Schema("things", GROWN.application_id, (GROWN.scripts[0], "CREATE TABLE t (x); SELECT oops;"))
    with pytest.raises(StoreFailed, match="oops"):
        Database(path, broken, Manner())
    still = Database(path, at_version(GROWN, 1), Manner(when_damaged="refuse"))
    assert still.number("PRAGMA user_version") == 1
    assert still.rows("SELECT type, name FROM sqlite_schema") == [("table", "things")]
    still.close()


def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Not a byte changes, nothing is set aside, and the error says which version it met."""
    path = tmp_path / "a.db"
    Database(path, GROWN, Manner()).close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="schema version 3; this Slipstream knows 2"):
        Database(path, at_version(GROWN, 2), Manner())
    assert before == path.read_bytes()
    assert not list(tmp_path.glob("*.corrupt-*"))


@pytest.mark.parametrize("version", [0, -1, 2**31 - 1])
def test_a_version_that_cannot_be_is_damage(tmp_path: Path, version: int) -> None:
    """A file comes to its place with its first script run, and there will not be a thousand."""
    path = tmp_path / "a.db"
    Database(path, GROWN, Manner()).close()
    other = apsw.Connection(str(path))
    other.pragma("user_version", version)
    other.close()
    database = Database(path, GROWN, Manner())
    assert len(database.quarantined) == 1
    database.close()


def test_the_scripts_are_numbered_without_a_gap() -> None:
    """The order of the files' names is the order in which they run."""
    folder = Path(migrations.__file__).parent / "sql"
    for schema in (records.SCHEMA, keys.SCHEMA):
        names = sorted(file.name for file in folder.glob(f"{schema.kind}_*.sql"))
        assert [f"{schema.kind}_{number:03}.sql" for number in range(1, schema.version + 1)] == names
        assert schema.version >= 1
