"""The schema of a database of ours and how an older file is brought up to it.

The version of a file is the number of scripts that were run on it (`PRAGMA user_version`).
A script that was once released is never edited: a change is a new script.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
from msgspec import Struct

from slipstream.core.errors import ConfigurationError

_SCRIPTS = Path(__file__).parent / "sql"
_IMPOSSIBLE_VERSION = 1_000


class Schema(Struct, frozen=True):
    """What a database must look like. `scripts` are in order; each runs in one transaction."""

    kind: str
    application_id: int
    """Stands in the file's header, so that the records are never opened as the keys."""
    scripts: tuple[str, ...]

    @property
    def version(self) -> int:
        """The version a file has after all scripts."""
        return len(self.scripts)


def load(kind: str, application_id: int) -> Schema:
    """The schema whose scripts are `sql/KIND_001.sql` and on."""
    scripts = tuple(path.read_text("utf-8") for path in sorted(_SCRIPTS.glob(f"{kind}_*.sql")))
    return Schema(kind, application_id, scripts)


def begin(connection: apsw.Connection, schema: Schema) -> None:
    """Make an empty database one of ours."""
    connection.pragma("auto_vacuum", 2)  # incremental; can only be chosen while the file is empty
    connection.pragma("application_id", schema.application_id)
    _run(connection, schema)


def upgrade(connection: apsw.Connection, schema: Schema) -> None:
    """Run the scripts that an existing file lacks.

    Raises `ConfigurationError`, having written nothing, for a file of a newer Slipstream and for a
    database that is not ours; `apsw.CorruptError` for a version that no file of ours can have.
    """
    refuse_foreign(connection, schema)
    _run(connection, schema)


def refuse_foreign(connection: apsw.Connection, schema: Schema) -> None:
    """Raise `ConfigurationError` for what this version of ours must not write to."""
    file = connection.db_filename("main")
    if connection.pragma("application_id") != schema.application_id:
        raise ConfigurationError(
            f"{file} is a database, but not one of Slipstream's {schema.kind}.",
            hint="It was left as it is. Name another file in the settings.",
        )
    version = connection.pragma("user_version")
    if not 1 <= version < _IMPOSSIBLE_VERSION:
        raise apsw.CorruptError(f"impossible schema version {version}")
    if version > schema.version:
        raise ConfigurationError(
            f"{file} has schema version {version}; this Slipstream knows {schema.version} and older.",
            hint="It was left as it is. Start the newer Slipstream that wrote it, or name another file.",
        )


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """All or nothing; takes the write lock at once, so that it cannot fail half-way for want of it.

    The connection's own `with` reports "cannot rollback" where SQLite has rolled back already, as it
    does when the disk is full, and so hides why.
    """
    connection.execute("BEGIN IMMEDIATE")
    committed = False
    try:
        yield
        connection.execute("COMMIT")
        committed = True
    finally:
        if not committed and connection.in_transaction:
            connection.execute("ROLLBACK")


def _run(connection: apsw.Connection, schema: Schema) -> None:
    while (version := connection.pragma("user_version")) < schema.version:
        with transaction(connection):
            connection.execute(schema.scripts[version])
            connection.pragma("user_version", version + 1)


def is_whole(connection: apsw.Connection, schema: Schema) -> bool:
    """Whether every table of the schema is there, word for word. Other people's tables do not matter."""
    fresh = apsw.Connection(":memory:")
    try:
        for script in schema.scripts:
            fresh.execute(script)
        return _tables(fresh) <= _tables(connection)
    finally:
        fresh.close()


def _tables(connection: apsw.Connection) -> set[tuple[str, str]]:
    return set(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'"))
